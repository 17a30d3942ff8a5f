"""The folder of a run: it goes on with the same run only, and in one process at a time."""

import dataclasses
import json
import os
import tomllib

import numpy as np
import pytest

from tests.zoo.training.tiny import TinyNet, register_tiny
from zoo.data.dataset import Dataset
from zoo.models.base import MODELS
from zoo.training import Settings, fit
from zoo.training.run_folder import RunError, RunFolder, describe_run

IMAGES = Dataset(
    images=[f"photos/{number}.jpg" for number in range(4)],
    labels=np.array([0, 1, 0, 1]),
    classes=("cat", "dog"),
)
MODEL = TinyNet(num_classes=2)


@pytest.fixture(autouse=True, scope="module")
def tiny():
    register_tiny()
    yield
    del MODELS["TinyNet"]


def begin(folder, train=IMAGES, validation=None, model=MODEL, **settings):
    run = RunFolder(folder)
    with run.lock():
        run.begin(describe_run(model, train, validation), Settings(**settings))


def change(**fields):
    return dataclasses.replace(IMAGES, **fields)


def test_a_run_goes_on_with_the_same(tmp_path):
    folder = tmp_path / "some" / "run"
    begin(folder, validation=IMAGES, freeze=("stem",), size=32)
    noted = (folder / "run.json").read_text()
    moved = change(images=[f"elsewhere/{number}.jpg" for number in range(4)])
    begin(folder, moved, moved, freeze=["stem"], size=32, checkpoint_minutes=1.0, max_skipped=0.5)
    assert (folder / "run.json").read_text() == noted
    kept = tomllib.loads((folder / "settings.toml").read_text())
    assert (kept["freeze"], kept["size"], kept["checkpoint_minutes"]) == (["stem"], 32, 1.0)
    assert Settings.read(folder / "settings.toml") == Settings(
        freeze=("stem",), size=32, checkpoint_minutes=1.0, max_skipped=0.5
    )


OTHER = {
    "a class": (
        {"train": change(classes=("cat", "wolf"))},
        "other classes: 'wolf' is new, 'dog' is gone",
    ),
    "an order": ({"train": change(classes=("dog", "cat"))}, "other classes: in another order"),
    "a label": ({"train": change(labels=np.array([1, 1, 0, 1]))}, "other images of that number"),
    "an image": ({"train": change(images=["a", "b", "c", "d"])}, "other images of that number"),
    "less images": (
        {"train": IMAGES.select(np.arange(3))},
        r"images for training and validation \[4, 0\], not \[3, 0\]",
    ),
    "validation": ({"validation": IMAGES}, r"images .* \[4, 0\], not \[4, 4\]"),
    "an argument": ({"model": MODEL.clone(norm_eps=0.1)}, "arguments .*norm_eps"),
    "settings": (
        {"rate": 0.5, "mixup": 0.1},
        r"other settings: rate was 0\.01 and is 0\.5, mixup was 0\.0 and is 0\.1",
    ),
}


@pytest.mark.parametrize("what", OTHER)
def test_another_run_is_refused(what, tmp_path):
    changes, message = OTHER[what]
    begin(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RunError, match=f"holds a run with {message}.*; give another folder"):
        begin(tmp_path, **changes)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_something_else_in_the_folder(tmp_path):
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(RunError, match="holds something that is no run; give another folder"):
        begin(tmp_path)
    (tmp_path / "run.json").write_text('{"half of')
    with pytest.raises(RunError, match=r"run\.json cannot be read"):
        begin(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "photo.jpg", "run.json"]


# Of the files that are written, in their order: the process is killed before one is in its place.
@pytest.mark.parametrize("written", [0, 1])
def test_a_process_killed_as_it_begins(written, tmp_path, monkeypatch):
    replace, replaced = os.replace, []

    def replace_some(*paths):
        if len(replaced) == written:
            raise KeyboardInterrupt
        replaced.append(replace(*paths))

    monkeypatch.setattr(os, "replace", replace_some)
    with pytest.raises(KeyboardInterrupt):
        begin(tmp_path)
    monkeypatch.undo()
    begin(tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["classes"] == ["cat", "dog"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".lock", "run.json", "settings.toml",
    ]  # fmt: skip


def test_a_folder_in_use(tmp_path):
    with RunFolder(tmp_path).lock(), pytest.raises(RunError, match="another process trains in"):
        fit(MODEL, "digits", folder=tmp_path, size=8)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
