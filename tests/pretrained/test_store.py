"""Checkpoints: whole or not there, exact, and never damaged in silence."""

import hashlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pretrained import store
from pretrained.store import CheckpointError


def variables():
    rng = np.random.default_rng(0)
    return {
        "params": {
            "stem": {"kernel": rng.normal(size=(3, 3, 3, 8)).astype(np.float32)},
            "head": {"kernel": jnp.ones((8, 2), jnp.bfloat16) / 3, "bias": np.zeros(2, np.float16)},
        },
        "batch_stats": {"stem": {"mean": rng.normal(size=8)}},
    }


@pytest.fixture
def saved(tmp_path):
    store.save(tmp_path / "one", variables(), {"model": "Toy", "top1": 71.5})
    return tmp_path / "one"


def test_round_trip_is_bit_exact(saved):
    restored, metadata = store.restore(saved)
    want = jax.tree.map(np.asarray, variables())
    assert jax.tree.structure(restored) == jax.tree.structure(want)
    for got, expected in zip(jax.tree.leaves(restored), jax.tree.leaves(want), strict=True):
        assert got.dtype == expected.dtype
        assert got.tobytes() == expected.tobytes()
    assert (metadata["model"], metadata["top1"]) == ("Toy", 71.5)


def test_a_checkpoint_can_be_moved_and_names_no_place(saved, tmp_path):
    moved = saved.rename(tmp_path / "elsewhere")
    store.restore(moved)
    for file in moved.rglob("*"):
        assert file.is_dir() or str(tmp_path).encode() not in file.read_bytes()


def test_what_is_there_is_kept(saved):
    with pytest.raises(FileExistsError, match="overwrite=True"):
        store.save(saved, {}, {})
    assert store.restore(saved).metadata["model"] == "Toy"


def test_overwrite_replaces_all_of_it(saved, tmp_path):
    store.save(saved, {"params": {"a": np.ones(3, np.float32)}}, {"model": "New"}, overwrite=True)
    restored, metadata = store.restore(saved)
    assert list(restored) == ["params"]
    assert metadata["model"] == "New"
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("step", ["_sha256", "rename"])
def test_a_save_that_fails_leaves_nothing_and_spoils_nothing(
    saved, tmp_path, monkeypatch, overwrite, step
):
    """As on a full disk: after Orbax has written, or when the new folder takes its place."""
    real = Path.rename

    def fail(path, target=None):
        if step == "rename" and path.name != "made":
            return real(path, target)
        raise OSError("no space left")

    monkeypatch.setattr(Path if step == "rename" else store, step, fail)
    with pytest.raises(OSError, match="no space left"):
        store.save(saved if overwrite else tmp_path / "two", variables(), {}, overwrite=overwrite)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    assert store.restore(saved).metadata["model"] == "Toy"


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        ({"a": {"b": np.zeros((0, 3))}}, ValueError, r"float64\[0, 3\] at a/b"),
        ({"a": np.array(["text"])}, ValueError, "<U4"),
        ({"a": object()}, ValueError, "object"),
        ({}, ValueError, "no arrays"),
        (None, TypeError, "JSON serializable"),
    ],
)
def test_what_cannot_be_saved(tmp_path, bad, error, words):
    metadata = {"not JSON": object()} if bad is None else {}
    with pytest.raises(error, match=words):
        store.save(tmp_path / "bad", variables() if bad is None else bad, metadata)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_checkpoint_is_not_replaced(tmp_path, kind):
    target = tmp_path / "mine"
    target.write_text("text") if kind == "file" else (target / "photos").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="no checkpoint to replace"):
        store.save(target, variables(), {}, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_damage_to_any_file_is_found(saved):
    files = [path for path in saved.rglob("*") if path.is_file()]
    assert len(files) > 5
    for file in files:
        original = file.read_bytes()
        for place in range(0, len(original), max(len(original) // 3, 1)):
            damaged = bytearray(original)
            damaged[place] ^= 0x55
            file.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=f"^the checkpoint {saved} [^\n]*$"):
                store.restore(saved)
        file.write_bytes(original)
    store.restore(saved)


def test_a_lost_file_is_found(saved):
    for file in [path for path in saved.rglob("*") if path.is_file()]:
        moved = file.rename(saved.parent / "moved")
        with pytest.raises(CheckpointError, match=r"missing|no readable SHA256SUMS"):
            store.restore(saved)
        moved.rename(file)


def test_the_sums_are_what_the_tool_of_that_name_reads(saved):
    lines = (saved / "SHA256SUMS").read_text().splitlines()
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((saved / name).read_bytes()).hexdigest() == digest


def test_a_later_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FORMAT", 2)
    store.save(tmp_path / "later", variables(), {})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="format 2; this version reads format 1"):
        store.restore(tmp_path / "later")


def test_what_verifies_but_is_no_checkpoint(tmp_path):
    """Orbax's own complaint comes through, in one line."""
    for name in ("metadata/metadata", "variables/manifest.ocdbt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("{")
    sums = [f"{hashlib.sha256(b'{').hexdigest()}  {name}" for name in
            ("metadata/metadata", "variables/manifest.ocdbt")]  # fmt: skip
    (tmp_path / "SHA256SUMS").write_text("\n".join(sums))
    with pytest.raises(CheckpointError, match=r"cannot be read: [^\n]+$"):
        store.restore(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(CheckpointError, match=f"no checkpoint at {tmp_path / 'none'}"):
        store.restore(tmp_path / "none")
