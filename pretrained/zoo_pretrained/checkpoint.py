"""Checkpoints: a model's variables and what is known of them, in Orbax's layout.

A checkpoint is a folder with two items: `variables`, the nested dictionaries of arrays, and
`metadata`, JSON. Its SHA256SUMS, which `sha256sum --check` reads too, covers every other file, so
that damage is never silent.

Orbax writes the folder, an uncompressed file an array (weights hardly compress), and can restore
it. `restore` maps those files itself, several at once, each hashed where its array then stays: that
takes a tenth of the time, and no copy.
"""

import contextlib
import ctypes
import errno
import hashlib
import json
import logging
import mmap
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401, gives NumPy the names of bfloat16 and its like
import numpy as np

from zoo_pretrained.lazy_array import Lazy

FORMAT = 1
SUMS = "SHA256SUMS"
CONVENTIONS = ("cross-correlation", "convolution")

Variables = dict[str, Any]

# Files from this size on, in bytes, are mapped into memory; smaller ones are quicker to read.
_MAPPED = 1 << 14
_THREADS = min(8, os.cpu_count() or 1)
# Orbax's savers in two threads of a process disturb each other.
_ONE_AT_A_TIME = threading.Lock()
_METADATA, _TREE = "metadata/metadata", "variables/_METADATA"


class Checkpoint(NamedTuple):
    """What a checkpoint holds.

    Args:
      variables: {"params": …, "batch_stats": …}, arrays in nested dictionaries.
      metadata: JSON values: the format's version, and what its writer put in.
    """

    variables: Variables
    metadata: dict[str, Any]


class CheckpointError(Exception):
    """A checkpoint that is missing, damaged, or of another format; names its folder."""


class DamagedError(CheckpointError):
    """A checkpoint that is not as it was saved."""


def save(
    path: str | os.PathLike[str],
    variables: Mapping[str, Any],
    metadata: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Writes a checkpoint; the folder appears whole or not at all.

    Args:
      path: the folder to make.
      variables: nested dictionaries of arrays; a `Lazy` one is written a piece at a time.
      metadata: what JSON can hold. `zoo.trained` knows "model", "arguments" of its constructor,
        "preprocessing", "labels", "source", "licence", "accuracy" and "kernel_convention":
        "cross-correlation", which is the default, or "convolution".
      overwrite: replaces a folder that is there already.

    Raises:
      FileExistsError: the folder is there, and `overwrite` is False or it is no checkpoint.
      ValueError: the variables hold nothing, or what is no array of numbers, or an empty one; or
        the kernel convention is none.
      TypeError: JSON cannot hold the metadata.
    """
    target = Path(path).absolute()
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} is there already; overwriting must be asked for")
    if target.exists() and not (target / SUMS).is_file():
        raise FileExistsError(f"{target} is there already, and is no checkpoint to replace")
    arrays = {
        p: a if isinstance(a, Lazy) else np.asarray(a) for p, a in flatten_variables(variables)
    }
    _check(arrays)
    record = {"kernel_convention": CONVENTIONS[0], **metadata, "format": FORMAT}
    _check_convention(record["kernel_convention"])
    json.dumps(record)  # raises before anything is written
    target.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    made, old = workshop / "made", workshop / "old"
    try:
        _write(made, arrays, record)
        if not (target.exists() and _exchange(made, target)):
            if target.exists():
                target.rename(old)
            try:
                made.rename(target)
            except OSError:
                if old.exists():
                    old.rename(target)
                raise
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def restore(
    path: str | os.PathLike[str],
    *,
    kernel_convention: str = CONVENTIONS[0],
) -> Checkpoint:
    """Reads a checkpoint, verifying every byte that it uses.

    Args:
      path: its folder.
      kernel_convention: "cross-correlation", as JAX and PyTorch have it, or "convolution", as
        Flux. Kernels of the other one, by the metadata, are turned by 180 degrees, and the metadata
        that is returned says so.

    Raises:
      CheckpointError: there is none, or another version wrote it.
      DamagedError: it is not as it was saved; names the file, and both sums.
    """
    _check_convention(kernel_convention)
    folder = Path(path).absolute()
    if not folder.is_dir():
        raise CheckpointError(f"there is no checkpoint at {folder}")
    files = _verified(folder)
    try:
        metadata = json.loads(bytes(files.pop(_METADATA)))
        turned = metadata.get("kernel_convention", CONVENTIONS[0]) != kernel_convention
        if turned:
            _check_convention(metadata["kernel_convention"])
        found = {
            path: array[::-1, ::-1] if turned and array.ndim == 4 else array
            for path, array in _arrays(files)
        }
    except Exception as error:  # a malformed header fails in many ways
        cause = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"the checkpoint {folder} cannot be read: {cause}") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"the checkpoint {folder} has format {metadata.get('format')!r}; "
            f"this version reads format {FORMAT}"
        )
    return Checkpoint(
        unflatten_variables(found), {**metadata, "kernel_convention": kernel_convention}
    )


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A checkpoint's metadata alone, unverified: to list what there is.

    Raises:
      CheckpointError: there is none.
    """
    try:
        metadata: dict[str, Any] = json.loads((Path(path) / _METADATA).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"there is no checkpoint at {path}") from error
    return metadata


def flatten_variables(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The arrays of nested dictionaries with their paths, such as "params/stem/conv/kernel"."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten_variables(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def unflatten_variables(flat: Mapping[str, Any]) -> Variables:
    """Arrays by their paths → nested dictionaries; the inverse of `flatten_variables`."""
    tree: Variables = {}
    for path, array in flat.items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = array
    return tree


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two folders in one step, so that no crash comes between; False where none can."""
    try:
        rename = ctypes.CDLL(None).renameat2  # Linux's
    except (OSError, AttributeError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return not rename(here, os.fsencode(one), here, os.fsencode(other), exchange)


def _check(arrays: Mapping[str, Any]) -> None:
    """Raises ValueError for what Orbax cannot save."""
    if not arrays:
        raise ValueError("variables hold no arrays")
    for path, array in arrays.items():
        if array.dtype.kind in "OSUMm" or array.size == 0:
            raise ValueError(
                f"variables must be arrays of numbers with at least one entry, "
                f"got {array.dtype}{list(array.shape)} at {path}"
            )


def _check_convention(convention: str) -> None:
    if convention not in CONVENTIONS:
        known = " or ".join(f'"{one}"' for one in CONVENTIONS)
        raise ValueError(f"a kernel convention is {known}, got {convention!r}")


def _write(folder: Path, arrays: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Has Orbax write a folder; then the lazy arrays, for which it wrote zeros."""
    import orbax.checkpoint as ocp

    plain = {
        path: np.broadcast_to(np.zeros((), array.dtype), array.shape)
        if isinstance(array, Lazy)
        else array
        for path, array in arrays.items()
    }
    handler = ocp.CompositeCheckpointHandler(
        variables=ocp.PyTreeCheckpointHandler(use_ocdbt=False, use_compression=False),
        metadata=ocp.JsonCheckpointHandler(),
    )
    args = ocp.args.Composite(
        variables=ocp.args.PyTreeSave(unflatten_variables(plain)),
        metadata=ocp.args.JsonSave(metadata),
    )
    quiet = _expected("Skipping merge of OCDBT")
    try:
        with _ONE_AT_A_TIME, quiet, ocp.Checkpointer(handler) as checkpointer:
            checkpointer.save(folder, args=args)
    except ValueError as error:
        if "No space left" in str(error):  # tensorstore's way to say so
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise
    # Orbax's own marks of completeness name the folder that the rename leaves behind.
    for mark in folder.rglob("commit_success.txt"):
        mark.unlink()
    for path, array in arrays.items():
        if isinstance(array, Lazy):
            with (folder / _chunk(path.split("/"), array.ndim)).open("r+b") as file:
                for piece in array.pieces():
                    file.write(piece.data if piece.dtype.kind in "fiub" else piece.tobytes())
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = [f"{_sha256(file)}  {file.relative_to(folder).as_posix()}\n" for file in files]
    (folder / SUMS).write_text("".join(sums), encoding="utf-8")


@contextlib.contextmanager
def _expected(beginning: str) -> Iterator[None]:
    """Keeps back what Orbax logs of a folder that, by our choice, is not in its database format."""
    logger = logging.getLogger("absl")

    def passes(record: logging.LogRecord) -> bool:
        return beginning not in str(record.msg)

    logger.addFilter(passes)
    try:
        yield
    finally:
        logger.removeFilter(passes)


def _verified(folder: Path) -> dict[str, np.ndarray]:
    """The bytes of every file by its name; DamagedError unless all are as they were saved."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedError(f"the checkpoint {folder} has no readable {SUMS}") from error
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name in {_METADATA, _TREE} - sums.keys():
        raise DamagedError(f"the checkpoint {folder} is damaged: {SUMS} does not list {name!r}")
    sizes = {name: _size(folder, name) for name in sums}
    files: dict[str, np.ndarray] = {}
    waiting = sorted(sizes, key=sizes.__getitem__)  # the largest last, which is taken first

    def work() -> None:
        while waiting:
            with contextlib.suppress(IndexError):  # another thread took the last one
                name = waiting.pop()
                files[name] = _read(folder, name, sums[name])

    with ThreadPoolExecutor(_THREADS) as pool:
        for done in [pool.submit(work) for _ in range(_THREADS)]:
            done.result()
    return files


def _read(folder: Path, name: str, expected: str) -> np.ndarray:
    """A file's bytes, or DamagedError if their sum is not what is expected.

    A large file is mapped: its pages are the operating system's own, shared by all processes, and
    whoever writes to the array gets a copy of the page. Nothing of ours changes a file in place;
    who does, changes arrays that are loaded.
    """
    with open(f"{folder}/{name}", "rb", buffering=0) as file:  # noqa: PTH123, faster by a half
        size = os.fstat(file.fileno()).st_size
        content: Any = (
            file.read()
            if size < _MAPPED
            else mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
        )
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DamagedError(
            f"the checkpoint {folder} is damaged: {name!r} was changed; "
            f"it has sha256 {found}, expected {expected}"
        )
    return np.frombuffer(content, np.uint8)


def _arrays(files: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of Orbax's tree, each an uncompressed zarr of one chunk; consumes the files."""
    tree = json.loads(bytes(files.pop(_TREE)))["tree_metadata"]
    for entry in tree.values():
        keys = [key["key"] for key in entry["key_metadata"]]
        header = json.loads(bytes(files.pop(f"variables/{'.'.join(keys)}/.zarray")))
        shape = tuple(header["shape"])
        layout = (header["compressor"], header["filters"], header["order"], header["zarr_format"])
        if layout != (None, None, "C", 2) or tuple(header["chunks"]) != shape:
            raise ValueError(f"{'/'.join(keys)} is not in one uncompressed piece")
        content = files.pop(_chunk(keys, len(shape)))
        yield "/".join(keys), content.view(np.dtype(header["dtype"])).reshape(shape)


def _chunk(keys: list[str], ndim: int) -> str:
    """The file of an array's only chunk."""
    return f"variables/{'.'.join(keys)}/{'.'.join('0' * max(ndim, 1))}"


def _size(folder: Path, name: str) -> int:
    """Of a file in bytes; DamagedError if there is none of that name in the folder."""
    with contextlib.suppress(OSError, ValueError):
        status = os.stat(f"{folder}/{name}")  # noqa: PTH116, hundreds of files
        if stat.S_ISREG(status.st_mode) and ".." not in name.split("/"):
            return status.st_size
    raise DamagedError(f"the checkpoint {folder} is damaged: {name!r} is missing")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
