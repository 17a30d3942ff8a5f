"""Compiled models are saved and loaded: the same bits, and clear errors for everything else."""

import json

import numpy as np
import pytest

import zoo
from zoo.inference import saved_programs
from zoo.inference.saved_programs import FACTS, WEIGHTS


@pytest.fixture(scope="module")
def lite():
    return zoo.trained(zoo.EfficientNetLite0)


@pytest.fixture(scope="module", params=["native", "xla"])
def compiled(lite, request, native_library):
    return lite.compile((1, 2), size=64, implementation=request.param)


@pytest.fixture
def folder(compiled, tmp_path):
    compiled.save(tmp_path / "lite")
    return tmp_path / "lite"


def test_loaded_programs_give_the_same_bits(compiled, folder):
    loaded = zoo.load_compiled(folder)
    x = np.random.default_rng(0).standard_normal((3, 64, 64, 3), np.float32)
    assert np.array_equal(loaded(x), compiled(x))
    for field in ("size", "channels", "batch_sizes", "dtype", "implementation", "labels"):
        assert getattr(loaded, field) == getattr(compiled, field)
    assert loaded.info.preprocessing == compiled.info.preprocessing
    assert loaded.info.licence == compiled.info.licence


def test_nothing_is_traced_when_it_is_loaded(folder, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise AssertionError("the model was traced")

    monkeypatch.setattr(zoo.models.efficientnet_lite.EfficientNetLite, "__call__", refuse)
    assert zoo.load_compiled(folder)(np.ones((1, 64, 64, 3), np.float32)).shape == (1, 1000)


def test_a_loaded_model_can_be_saved_again(folder, tmp_path):
    zoo.load_compiled(folder).save(tmp_path / "again")
    x = np.ones((1, 64, 64, 3), np.float32)
    assert np.array_equal(zoo.load_compiled(tmp_path / "again")(x), zoo.load_compiled(folder)(x))


def test_only_a_compiled_model_is_overwritten(compiled, folder, tmp_path):
    with pytest.raises(FileExistsError, match="overwrite=True replaces it"):
        compiled.save(folder)
    compiled.save(folder, overwrite=True)
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(FileExistsError, match="is no compiled model"):
        compiled.save(other, overwrite=True)
    assert (other / "cat.jpg").read_bytes() == b"cat"


def test_what_is_no_compiled_model_is_told(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        zoo.load_compiled(tmp_path / "nowhere")
    with pytest.raises(zoo.CompiledError, match=r"is no compiled model: .*compiled\.json"):
        zoo.load_compiled(tmp_path)
    for name, content in ((WEIGHTS, b"x"), ("images-1.bin", b"x"), (FACTS, b"{}"), (FACTS, b"[")):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        with pytest.raises(zoo.CompiledError, match="is no compiled model"):
            zoo.load_compiled(folder)
        (folder / name).write_bytes(kept)


def test_another_machines_programs_are_refused(folder):
    facts = json.loads((folder / FACTS).read_text())
    facts["made_by"] = "native layers 0123 with vectors of 4"
    (folder / FACTS).write_text(json.dumps(facts))
    with pytest.raises(zoo.CompiledError, match=r"vectors of 4, and this is .*compile it again"):
        zoo.load_compiled(folder)


def test_a_failing_save_leaves_nothing(lite, tmp_path, monkeypatch):
    compiled = lite.compile(1, size=64, implementation="xla")

    def fail(*args):
        raise OSError("the disk is full")

    monkeypatch.setattr(saved_programs, "_export", fail)
    with pytest.raises(OSError, match="disk is full"):
        compiled.save(tmp_path / "lite")
    assert list(tmp_path.iterdir()) == []
