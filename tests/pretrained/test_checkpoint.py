"""Checkpoints: whole or not there, exact, and never damaged in silence."""

import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo_pretrained import checkpoint as store
from zoo_pretrained.checkpoint import CheckpointError, DamagedError
from zoo_pretrained.lazy_array import PIECE, Lazy


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
    with pytest.raises(FileExistsError, match="overwriting must be asked for"):
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
    """As on a full disk: after Orbax has written, or when the new folder takes its place.

    In that place two folders are exchanged by one call, or, where there is none, renamed by two.
    """
    real = Path.rename
    monkeypatch.setattr(store, "_exchange", lambda one, other: False)

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


def sealed(folder):
    """Sums for whatever is in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != store.SUMS)
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder)}\n"
        for file in files
    ]
    (folder / store.SUMS).write_text("".join(lines))


@pytest.mark.parametrize("name", ["metadata/metadata", "variables/_METADATA"])
@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"tree_metadata": {"a": {}}}'])
def test_what_verifies_but_is_no_checkpoint(saved, name, text):
    """The complaint is one line."""
    (saved / name).write_text(text)
    sealed(saved)
    with pytest.raises(CheckpointError, match=r"cannot be read: [^\n]+$|has format None"):
        store.restore(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"order": "F"},
        {"compressor": {"id": "zstd"}},
        {"chunks": [1, 1, 1, 1]},
        {"shape": [3, 3, 3, 9], "chunks": [3, 3, 3, 9]},
        {"dtype": "|O"},
        {"dtype": "no dtype"},
    ],
)
def test_an_array_in_another_layout_is_refused(saved, change):
    file = saved / "variables" / "params.stem.kernel" / ".zarray"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    sealed(saved)
    with pytest.raises(CheckpointError, match=r"cannot be read: [^\n]+$"):
        store.restore(saved)


def test_nothing_is_read_that_no_sum_covers(saved):
    (saved / "variables" / "more").write_text("")  # of no consequence
    store.restore(saved)
    lines = (saved / store.SUMS).read_text().splitlines(keepends=True)
    for lost in ("variables/_METADATA", "params.stem.kernel/.zarray", "params.stem.kernel/0"):
        (saved / store.SUMS).write_text("".join(line for line in lines if lost not in line))
        with pytest.raises(CheckpointError, match=r"_METADATA'|cannot be read: .*stem\.kernel"):
            store.restore(saved)


@pytest.mark.parametrize("name", ["../secret", "variables/../../secret", "variables", "pipe", "\0"])
def test_names_that_lead_elsewhere(saved, tmp_path, name):
    (tmp_path / "secret").write_text("secret")
    os.mkfifo(saved / "pipe")
    digest = hashlib.sha256(b"secret").hexdigest()
    with (saved / store.SUMS).open("a") as sums:
        sums.write(f"{digest}  {name}\n")
    with pytest.raises(DamagedError, match="is missing"):
        store.restore(saved)


def test_damage_is_told_with_the_file_and_both_sums(saved):
    file = saved / "variables" / "params.stem.kernel" / "0.0.0.0"
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_bytes(bytes(864))
    now = hashlib.sha256(bytes(864)).hexdigest()
    with pytest.raises(DamagedError, match=f"kernel/0.0.0.0' .* sha256 {now}, expected {before}"):
        store.restore(saved)


def test_orbax_restores_the_same(saved):
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        args = ocp.args.Composite(
            variables=ocp.args.StandardRestore(), metadata=ocp.args.JsonRestore()
        )
        restored = checkpointer.restore(saved, args=args)
    variables, metadata = store.restore(saved)
    jax.tree.map(np.testing.assert_array_equal, restored.variables, variables)
    assert restored.metadata == metadata


def test_lazy_arrays_are_saved_as_what_they_stand_for(tmp_path):
    """Transposed, reshaped, converted, and in more pieces than one."""
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(7, 2 * 3 * 5)).astype(np.float16)
    kernel = rng.normal(size=(4, 3, 2, 2))
    cells = dense.reshape(7, 2, 3, 5).transpose(2, 3, 1, 0)
    tree = {
        "dense": Lazy(cells, (30, 7), np.float32),
        "kernel": Lazy(kernel.transpose(2, 3, 1, 0)[::-1, ::-1]),
        "brain": Lazy(kernel, dtype=jnp.bfloat16),
        "one": Lazy(np.array(2.5)),
        "large": Lazy(np.broadcast_to(rng.normal(size=3), (PIECE // 8, 3))),
    }
    store.save(tmp_path / "lazy", tree, {})
    restored = store.restore(tmp_path / "lazy").variables
    for name, array in tree.items():
        assert restored[name].dtype == array.dtype
        np.testing.assert_array_equal(restored[name], np.asarray(array))
    np.testing.assert_array_equal(
        restored["dense"], dense.T.reshape(2, 3, 5, 7).transpose(1, 2, 0, 3).reshape(30, 7)
    )
    np.testing.assert_array_equal(restored["kernel"], kernel.transpose(2, 3, 1, 0)[::-1, ::-1])


def test_pieces_are_small_and_make_up_the_whole():
    array = np.arange(2 * 3 * 50).reshape(3, 50, 2).transpose(1, 2, 0)
    for limit in (8, 24, 100, 10_000):
        pieces = list(Lazy(array).pieces(limit))
        assert max(piece.nbytes for piece in pieces) <= max(limit, 8)
        np.testing.assert_array_equal(np.concatenate([p.ravel() for p in pieces]), array.ravel())
    with pytest.raises(ValueError, match=r"\(7, 7\) has not as many entries"):
        Lazy(array, (7, 7))


@pytest.mark.parametrize("kept", store.CONVENTIONS)
@pytest.mark.parametrize("wanted", store.CONVENTIONS)
def test_kernels_are_turned_where_the_conventions_differ(tmp_path, kept, wanted):
    store.save(tmp_path / "kept", variables(), {"kernel_convention": kept})
    restored, metadata = store.restore(tmp_path / "kept", kernel_convention=wanted)
    assert metadata["kernel_convention"] == wanted
    want = variables()
    if kept != wanted:
        kernel = want["params"]["stem"]["kernel"]
        want["params"]["stem"]["kernel"] = kernel[::-1, ::-1]
    jax.tree.map(np.testing.assert_array_equal, restored, jax.tree.map(np.asarray, want))


def test_a_convention_that_is_none(saved, tmp_path):
    words = '"cross-correlation" or "convolution", got \'flipped\''
    with pytest.raises(ValueError, match=words):
        store.save(tmp_path / "bad", variables(), {"kernel_convention": "flipped"})
    assert not (tmp_path / "bad").exists()
    with pytest.raises(ValueError, match=words):
        store.restore(saved, kernel_convention="flipped")


def test_arrays_are_in_the_files_memory_and_safe_to_write_to(saved, tmp_path):
    large = np.ones((100, 100), np.float32)
    store.save(tmp_path / "large", {"a": large}, {})
    first, second = (store.restore(tmp_path / "large").variables["a"] for _ in range(2))
    first[:] = 0
    np.testing.assert_array_equal(second, large)
    shutil.rmtree(tmp_path / "large")
    np.testing.assert_array_equal(second, large)


def test_two_folders_change_places(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not store._exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this system knows no such call")
    assert (tmp_path / "a" / "b").exists()
    assert (tmp_path / "b" / "a").exists()
    assert not store._exchange(tmp_path / "a", tmp_path / "none")


def test_a_full_disk_is_an_oserror(tmp_path, monkeypatch):
    import orbax.checkpoint as ocp

    def save(*args, **kwargs):
        raise ValueError("RESOURCE_EXHAUSTED: Error writing file: No space left on device")

    monkeypatch.setattr(ocp.Checkpointer, "save", save)
    with pytest.raises(OSError, match="No space left on device"):
        store.save(tmp_path / "mine", variables(), {})
    assert not list(tmp_path.iterdir())


def test_savers_in_several_threads(tmp_path):
    names = [f"saved{number}" for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: store.save(tmp_path / name, variables(), {}), names))
    for name in names:
        store.restore(tmp_path / name)


def test_nothing_there(tmp_path):
    with pytest.raises(CheckpointError, match=f"no checkpoint at {tmp_path / 'none'}"):
        store.restore(tmp_path / "none")
