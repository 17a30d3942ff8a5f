"""Checkpoints are complete or absent, exact, and damage to them is always found."""

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

from zoo_pretrained import checkpoint, temporary
from zoo_pretrained.checkpoint import CheckpointError, DamagedError
from zoo_pretrained.lazy_array import CHUNK_BYTES, LazyArray


def toy_variables():
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
    checkpoint.save(
        tmp_path / "one", toy_variables(), {"weights": "toy", "accuracy": {"top1": 71.5}}
    )
    return tmp_path / "one"


def test_round_trip_is_bit_exact(saved):
    restored, metadata = checkpoint.restore(saved)
    want = jax.tree.map(np.asarray, toy_variables())
    assert jax.tree.structure(restored) == jax.tree.structure(want)
    for got, expected in zip(jax.tree.leaves(restored), jax.tree.leaves(want), strict=True):
        assert got.dtype == expected.dtype
        assert got.tobytes() == expected.tobytes()
    assert (metadata["weights"], metadata["accuracy"]) == ("toy", {"top1": 71.5})


def test_a_checkpoint_can_be_moved_and_contains_no_path(saved, tmp_path):
    moved = saved.rename(tmp_path / "elsewhere")
    checkpoint.restore(moved)
    for file in moved.rglob("*"):
        assert file.is_dir() or str(tmp_path).encode() not in file.read_bytes()


def test_save_does_not_replace_a_checkpoint_by_default(saved):
    with pytest.raises(FileExistsError, match="exists already; overwrite=True replaces it"):
        checkpoint.save(saved, {}, {})
    assert checkpoint.restore(saved).metadata["weights"] == "toy"


def test_overwrite_replaces_the_whole_checkpoint(saved, tmp_path):
    checkpoint.save(
        saved, {"params": {"a": np.ones(3, np.float32)}}, {"weights": "new"}, overwrite=True
    )
    restored, metadata = checkpoint.restore(saved)
    assert list(restored) == ["params"]
    assert metadata["weights"] == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("step", ["_sha256", "rename"])
def test_a_failed_save_leaves_no_files_and_no_damage(saved, tmp_path, monkeypatch, overwrite, step):
    """The disk is full after Orbax has written, or when the new folder is renamed.

    The folders are swapped by two renames, as on systems that have no single call for it.
    """
    real = Path.rename
    monkeypatch.setattr(temporary, "_swap_folders", lambda one, other: False)

    def fail(path, target=None):
        if step == "rename" and path.name != "new":
            return real(path, target)
        raise OSError("no space left")

    monkeypatch.setattr(Path if step == "rename" else checkpoint, step, fail)
    with pytest.raises(OSError, match="no space left"):
        checkpoint.save(
            saved if overwrite else tmp_path / "two", toy_variables(), {}, overwrite=overwrite
        )
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    assert checkpoint.restore(saved).metadata["weights"] == "toy"


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        ({"a": {"b": np.zeros((0, 3))}}, ValueError, r"float64\[0, 3\] at a/b"),
        ({"a": np.array(["text"])}, ValueError, "<U4"),
        ({"a": object()}, ValueError, "object"),
        ({}, ValueError, "no arrays"),
        ({"a.b": np.ones(1), "a": {"b": np.ones(1)}}, ValueError, "a.b and a/b would be one file"),
        (None, TypeError, "JSON serializable"),
    ],
)
def test_raises_for_what_cannot_be_saved(tmp_path, bad, error, words):
    metadata = {"extra": object()} if bad is None else {}
    with pytest.raises(error, match=words):
        checkpoint.save(tmp_path / "bad", toy_variables() if bad is None else bad, metadata)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_overwrite_replaces_only_checkpoints(tmp_path, kind):
    target = tmp_path / "mine"
    target.write_text("text") if kind == "file" else (target / "photos").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="is not a checkpoint that may be replaced"):
        checkpoint.save(target, toy_variables(), {}, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_damage_to_any_file_is_found(saved):
    files = [path for path in saved.rglob("*") if path.is_file()]
    assert len(files) > 5
    for file in files:
        original = file.read_bytes()
        for position in range(0, len(original), max(len(original) // 3, 1)):
            damaged = bytearray(original)
            damaged[position] ^= 0x55
            file.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=f"^the checkpoint {saved} [^\n]*$"):
                checkpoint.restore(saved)
        file.write_bytes(original)
    checkpoint.restore(saved)


def test_a_missing_file_is_found(saved):
    for file in [path for path in saved.rglob("*") if path.is_file()]:
        moved = file.rename(saved.parent / "moved")
        with pytest.raises(CheckpointError, match=r"missing|no readable SHA256SUMS"):
            checkpoint.restore(saved)
        moved.rename(file)


def test_the_checksums_have_the_format_of_sha256sum(saved):
    lines = (saved / "SHA256SUMS").read_text().splitlines()
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((saved / name).read_bytes()).hexdigest() == digest


def test_a_later_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    checkpoint.save(tmp_path / "later", toy_variables(), {})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="format 2; this version reads format 1"):
        checkpoint.restore(tmp_path / "later")


def rewrite_checksums(folder):
    """Writes the checksums of whatever is in a folder."""
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and path.name != checkpoint.CHECKSUMS
    )
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder)}\n"
        for file in files
    ]
    (folder / checkpoint.CHECKSUMS).write_text("".join(lines))


@pytest.mark.parametrize("name", ["metadata/metadata", "variables/_METADATA"])
@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"tree_metadata": {"a": {}}}'])
def test_raises_for_verified_files_that_are_not_a_checkpoint(saved, name, text):
    """The message is one line."""
    (saved / name).write_text(text)
    rewrite_checksums(saved)
    with pytest.raises(CheckpointError, match=r"cannot be read: [^\n]+$|has format None"):
        checkpoint.restore(saved)


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
    rewrite_checksums(saved)
    with pytest.raises(CheckpointError, match=r"cannot be read: [^\n]+$"):
        checkpoint.restore(saved)


def test_only_files_with_a_checksum_are_read(saved):
    (saved / "variables" / "more").write_text("")  # is ignored
    checkpoint.restore(saved)
    lines = (saved / checkpoint.CHECKSUMS).read_text().splitlines(keepends=True)
    for removed in ("variables/_METADATA", "params.stem.kernel/.zarray", "params.stem.kernel/0"):
        (saved / checkpoint.CHECKSUMS).write_text(
            "".join(line for line in lines if removed not in line)
        )
        with pytest.raises(CheckpointError, match=r"_METADATA'|cannot be read: .*stem\.kernel"):
            checkpoint.restore(saved)


@pytest.mark.parametrize("name", ["../secret", "variables/../../secret", "variables", "pipe", "\0"])
def test_checksums_cannot_name_files_elsewhere(saved, tmp_path, name):
    (tmp_path / "secret").write_text("secret")
    os.mkfifo(saved / "pipe")
    digest = hashlib.sha256(b"secret").hexdigest()
    with (saved / checkpoint.CHECKSUMS).open("a") as file:
        file.write(f"{digest}  {name}\n")
    with pytest.raises(DamagedError, match="is missing"):
        checkpoint.restore(saved)


def test_the_message_names_the_damaged_file_and_both_digests(saved):
    file = saved / "variables" / "params.stem.kernel" / "0.0.0.0"
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_bytes(bytes(864))
    now = hashlib.sha256(bytes(864)).hexdigest()
    with pytest.raises(DamagedError, match=f"kernel/0.0.0.0' .* sha256 {now}, expected {before}"):
        checkpoint.restore(saved)


def test_orbax_restores_the_same_variables(saved):
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        args = ocp.args.Composite(
            variables=ocp.args.StandardRestore(), metadata=ocp.args.JsonRestore()
        )
        restored = checkpointer.restore(saved, args=args)
    variables, metadata = checkpoint.restore(saved)
    jax.tree.map(np.testing.assert_array_equal, restored.variables, variables)
    assert restored.metadata == metadata


def test_lazy_arrays_are_saved_like_ordinary_ones(tmp_path):
    """Transposed, reshaped, converted, and in several chunks."""
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(7, 2 * 3 * 5)).astype(np.float16)
    kernel = rng.normal(size=(4, 3, 2, 2))
    cells = dense.reshape(7, 2, 3, 5).transpose(2, 3, 1, 0)
    tree = {
        "dense": LazyArray(cells, (30, 7), np.float32),
        "kernel": LazyArray(kernel.transpose(2, 3, 1, 0)[::-1, ::-1]),
        "bfloat16": LazyArray(kernel, dtype=jnp.bfloat16),
        "scalar": LazyArray(np.array(2.5)),
        "large": LazyArray(np.broadcast_to(rng.normal(size=3), (CHUNK_BYTES // 8, 3))),
    }
    checkpoint.save(tmp_path / "lazy", tree, {})
    restored = checkpoint.restore(tmp_path / "lazy").variables
    for name, array in tree.items():
        assert restored[name].dtype == array.dtype
        np.testing.assert_array_equal(restored[name], np.asarray(array))
    np.testing.assert_array_equal(
        restored["dense"], dense.T.reshape(2, 3, 5, 7).transpose(1, 2, 0, 3).reshape(30, 7)
    )
    np.testing.assert_array_equal(restored["kernel"], kernel.transpose(2, 3, 1, 0)[::-1, ::-1])


def test_chunks_are_small_and_make_up_the_array():
    array = np.arange(2 * 3 * 50).reshape(3, 50, 2).transpose(1, 2, 0)
    for limit in (8, 24, 100, 10_000):
        chunks = list(LazyArray(array).chunks(limit))
        assert max(chunk.nbytes for chunk in chunks) <= max(limit, 8)
        np.testing.assert_array_equal(np.concatenate([c.ravel() for c in chunks]), array.ravel())
    with pytest.raises(
        ValueError, match=r"as many entries as the view's \(50, 2, 3\), got \(7, 7\)"
    ):
        LazyArray(array, (7, 7))


@pytest.mark.parametrize("saved_as", checkpoint.KERNEL_CONVENTIONS)
@pytest.mark.parametrize("wanted", checkpoint.KERNEL_CONVENTIONS)
def test_kernels_are_flipped_where_the_conventions_differ(tmp_path, saved_as, wanted):
    checkpoint.save(tmp_path / "toy", toy_variables(), {"kernel_convention": saved_as})
    restored, metadata = checkpoint.restore(tmp_path / "toy", kernel_convention=wanted)
    assert metadata["kernel_convention"] == wanted
    want = toy_variables()
    if saved_as != wanted:
        kernel = want["params"]["stem"]["kernel"]
        want["params"]["stem"]["kernel"] = kernel[::-1, ::-1]
    jax.tree.map(np.testing.assert_array_equal, restored, jax.tree.map(np.asarray, want))


def test_raises_for_an_unknown_kernel_convention(saved, tmp_path):
    words = '"cross-correlation" or "convolution", got \'flipped\''
    with pytest.raises(ValueError, match=words):
        checkpoint.save(tmp_path / "bad", toy_variables(), {"kernel_convention": "flipped"})
    assert not (tmp_path / "bad").exists()
    with pytest.raises(ValueError, match=words):
        checkpoint.restore(saved, kernel_convention="flipped")


def test_restored_arrays_are_mapped_copy_on_write(saved, tmp_path):
    large = np.ones((100, 100), np.float32)
    checkpoint.save(tmp_path / "large", {"a": large}, {})
    first, second = (checkpoint.restore(tmp_path / "large").variables["a"] for _ in range(2))
    first[:] = 0
    np.testing.assert_array_equal(second, large)
    shutil.rmtree(tmp_path / "large")
    np.testing.assert_array_equal(second, large)


def test_two_folders_are_swapped(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not temporary._swap_folders(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this system cannot swap folders")
    assert (tmp_path / "a" / "b").exists()
    assert (tmp_path / "b" / "a").exists()
    assert not temporary._swap_folders(tmp_path / "a", tmp_path / "none")


def test_a_full_disk_is_an_oserror(tmp_path, monkeypatch):
    import orbax.checkpoint as ocp

    def save(*args, **kwargs):
        raise ValueError("RESOURCE_EXHAUSTED: Error writing file: No space left on device")

    monkeypatch.setattr(ocp.Checkpointer, "save", save)
    with pytest.raises(OSError, match="No space left on device"):
        checkpoint.save(tmp_path / "mine", toy_variables(), {})
    assert not list(tmp_path.iterdir())


def test_saving_in_several_threads(tmp_path):
    names = [f"saved{number}" for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: checkpoint.save(tmp_path / name, toy_variables(), {}), names))
    for name in names:
        checkpoint.restore(tmp_path / name)


def test_raises_where_there_is_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=f"no checkpoint at {tmp_path / 'none'}"):
        checkpoint.restore(tmp_path / "none")
