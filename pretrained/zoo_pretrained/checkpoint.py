"""Saves and restores checkpoints: a model's variables with metadata, in Orbax's layout.

A checkpoint is a folder with two items: `variables`, nested dictionaries of arrays, and `metadata`,
JSON. Its file SHA256SUMS, which `sha256sum --check` can read, covers every other file, so that
damage is always noticed.

Orbax writes the folder, with one uncompressed file for each array (weights hardly compress), and
can restore it. `restore` instead maps these files into memory, several at once, and hashes each
there: that takes a tenth of the time, and no copy.
"""

import contextlib
import hashlib
import json
import mmap
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401, registers bfloat16 and similar dtypes with NumPy
import numpy as np

from zoo_pretrained.addresses import expand_home
from zoo_pretrained.bounded_json import check_json, parse_json, read_json
from zoo_pretrained.lazy_array import LazyArray
from zoo_pretrained.logs import drop_records
from zoo_pretrained.metadata import check_metadata, check_names
from zoo_pretrained.printable import OneLineError, printable
from zoo_pretrained.spelling import argument
from zoo_pretrained.temporary import (
    replace_folder,
    report_full_disk,
    reserve_space,
    temporary_folder,
)

FORMAT = 1
CHECKSUMS = "SHA256SUMS"
KERNEL_CONVENTIONS = ("cross-correlation", "convolution")

Variables = dict[str, Any]

# Smaller files are faster to read than to map into memory.
_MIN_MAPPED_BYTES = 1 << 14
_THREADS = min(8, os.cpu_count() or 1)
# Orbax cannot save in two threads of a process at once.
_SAVE_LOCK = threading.Lock()
MAX_DEPTH = 64  # names in an array's path
_MAX_CHECKSUMS = 16 << 20  # bytes of the list of checksums
_METADATA, _TREE = "metadata/metadata", "variables/_METADATA"


# What else `save` checks of (variables, metadata); see `register_check`.
_CHECKS: list[Callable[[Mapping[str, Any], Mapping[str, Any]], None]] = []


class Checkpoint(NamedTuple):
    """A model's variables and their metadata.

    Args:
      variables: {"params": …, "batch_stats": …}, arrays in nested dictionaries.
      metadata: JSON values: the format's version, and what `save` was given.
    """

    variables: Variables
    metadata: dict[str, Any]


class CheckpointError(OneLineError):
    """A checkpoint is missing, damaged, or of another format; names its folder."""


class DamagedError(CheckpointError):
    """A checkpoint has changed since it was saved."""


def save(
    path: str | os.PathLike[str],
    variables: Mapping[str, Any],
    metadata: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Saves a checkpoint; the folder appears complete or not at all.

    Args:
      path: the folder to make.
      variables: nested dictionaries of arrays; a `LazyArray` is written a chunk at a time.
      metadata: JSON values, by the names in `metadata.ENTRIES`. `zoo.save` and the `save` of what
        `zoo.trained` returns write all of them. "kernel_convention" is "cross-correlation", which
        is the default, or "convolution".
      overwrite: replaces a checkpoint that exists already.

    Raises:
      CheckpointError: the path has characters that cannot be printed.
      FileExistsError: the path exists, and `overwrite` is False or it is not a checkpoint.
      ValueError: there are no variables, or one is empty or not an array of numbers; an entry of
        the metadata has an unknown name or a value that cannot be used; or, where the metadata name
        a model of the zoo, the variables or the labels do not fit it.
      TypeError: JSON cannot represent the metadata.
      RuntimeError: this is one of several processes of `jax.distributed`, and not the first.
    """
    target = expand_home(os.fspath(path)).absolute()
    if not str(target).isprintable():  # bytes that are no text, which Orbax does not take
        raise CheckpointError(
            f"{printable(target)} is no name for a checkpoint: use printable text"
        )
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists already; {argument('overwrite', True)} replaces it")
    if target.exists() and not (target / CHECKSUMS).is_file():
        raise FileExistsError(
            f"{target} exists already, and is not a checkpoint that may be replaced"
        )
    arrays = {
        path: array if isinstance(array, LazyArray) else np.asarray(array)
        for path, array in flatten_variables(variables)
    }
    _check_arrays(arrays)
    record = {"kernel_convention": KERNEL_CONVENTIONS[0], **metadata, "format": FORMAT}
    _check_convention(record["kernel_convention"])
    check_names(record)
    check_json(json.dumps(record).encode())  # raises before anything is written
    check_checkpoint(variables, record)
    target.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(target) as temporary:
        new = temporary / "new"
        reserve_space(temporary, sum(a.size * np.dtype(a.dtype).itemsize for a in arrays.values()))
        with report_full_disk(target):
            _write(new, arrays, record)
        replace_folder(target, new)


def check_checkpoint(variables: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Raises ValueError for what `save` would refuse, unknown names of metadata aside."""
    check_metadata(metadata)
    for check in _CHECKS:
        check(variables, metadata)


def register_check(check: Callable[[Mapping[str, Any], Mapping[str, Any]], None]) -> None:
    """Adds a check to `save`, for whoever knows more of the variables than this package does.

    Args:
      check: is called with the variables and the metadata; a ValueError stops the saving.
    """
    _CHECKS.append(check)


def restore(
    path: str | os.PathLike[str],
    *,
    kernel_convention: str = KERNEL_CONVENTIONS[0],
) -> Checkpoint:
    """Restores a checkpoint, verifying every byte that it uses.

    Args:
      path: its folder.
      kernel_convention: "cross-correlation", as in JAX and PyTorch, or "convolution", as in Flux.
        Where the metadata names the other one, kernels are flipped in height and width; the
        returned metadata names this one.

    Raises:
      CheckpointError: there is no checkpoint, or it has another format.
      DamagedError: it has changed since it was saved; names the file, and both digests.
    """
    _check_convention(kernel_convention)
    folder = expand_home(os.fspath(path)).absolute()
    if not folder.is_dir():
        raise CheckpointError(f"there is no checkpoint at {folder}")
    files = _read_files(folder)
    try:
        metadata = parse_json(files.pop(_METADATA).data)
        flip = metadata.get("kernel_convention", KERNEL_CONVENTIONS[0]) != kernel_convention
        if flip:
            _check_convention(metadata["kernel_convention"])
        arrays = {
            path: array[::-1, ::-1] if flip and array.ndim == 4 else array
            for path, array in _decode_arrays(files)
        }
        variables = unflatten_variables(arrays)
    except Exception as error:  # a malformed header fails in many ways
        cause = printable(f"{type(error).__name__}: {error}")
        raise CheckpointError(f"the checkpoint {folder} cannot be read: {cause}") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"the checkpoint {folder} has format {printable(metadata.get('format'))}; "
            f"this version reads format {FORMAT}"
        )
    return Checkpoint(variables, {**metadata, "kernel_convention": kernel_convention})


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a checkpoint's metadata without verifying anything, for listings.

    Raises:
      CheckpointError: there is no checkpoint.
    """
    try:
        metadata = read_json(Path(path) / _METADATA)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"there is no checkpoint at {path}") from error
    if not isinstance(metadata, dict):
        raise CheckpointError(f"the metadata of the checkpoint {path} are no record")
    return metadata


def flatten_variables(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the arrays of nested dictionaries by their paths, as "params/stem/conv/kernel"."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten_variables(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def unflatten_variables(flat: Mapping[str, Any]) -> Variables:
    """Builds nested dictionaries from arrays by their paths: the inverse of `flatten_variables`.

    Raises:
      ValueError: a path leads through an array, or is longer than any model's.
    """
    tree: Variables = {}
    for path, array in flat.items():
        *folders, name = path.split("/")
        if len(folders) > MAX_DEPTH:
            raise ValueError(f"{printable(path)} has more than {MAX_DEPTH} parts")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
            if not isinstance(node, dict):
                raise ValueError(f"{printable(path)} is an array below another array")
        if name in node:
            raise ValueError(f"{printable(path)} is an array with arrays below it, or twice there")
        node[name] = array
    return tree


def _check_arrays(arrays: Mapping[str, Any]) -> None:
    """Raises ValueError for what Orbax cannot save."""
    if not arrays:
        raise ValueError("variables hold no arrays")
    by_file: dict[str, str] = {}
    for path, array in arrays.items():
        other = by_file.setdefault(path.replace("/", "."), path)
        if other != path:
            raise ValueError(f"variables {other} and {path} would be one file; rename one")
        if array.dtype.kind in "OSUMm" or array.size == 0:
            raise ValueError(
                f"variables must be arrays of numbers with at least one entry, "
                f"got {array.dtype}{list(array.shape)} at {path}"
            )


def _check_convention(convention: str) -> None:
    if convention not in KERNEL_CONVENTIONS:
        known = " or ".join(f'"{name}"' for name in KERNEL_CONVENTIONS)
        raise ValueError(f"kernel_convention must be {known}, got {convention!r}")


def _write(folder: Path, arrays: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Writes a checkpoint's folder with Orbax, with zeros for lazy arrays; then their entries."""
    import jax
    import orbax.checkpoint as ocp

    placeholders = {
        path: np.broadcast_to(np.zeros((), array.dtype), array.shape)
        if isinstance(array, LazyArray)
        else array
        for path, array in arrays.items()
    }
    if jax.process_index():  # Orbax would leave the arrays out
        raise RuntimeError(
            f"of the processes of jax.distributed only process 0 can save a checkpoint, "
            f"this is process {jax.process_index()}"
        )
    # It waits for no other.
    alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
    handler = ocp.CompositeCheckpointHandler(
        variables=ocp.PyTreeCheckpointHandler(
            use_ocdbt=False, use_compression=False, multiprocessing_options=alone
        ),
        metadata=ocp.JsonCheckpointHandler(multiprocessing_options=alone),
        composite_options=ocp.CompositeOptions(multiprocessing_options=alone),
    )
    args = ocp.args.Composite(
        variables=ocp.args.PyTreeSave(unflatten_variables(placeholders)),
        metadata=ocp.args.JsonSave(metadata),
    )
    # Orbax logs that the folder is not in its database format, which is our choice.
    no_warning = drop_records(["absl"], lambda record: "Skipping merge of OCDBT" in str(record.msg))
    with (
        _SAVE_LOCK,
        no_warning,
        ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer,
    ):
        checkpointer.save(folder, args=args)
    # Orbax's own markers of completeness name the temporary folder.
    for marker in folder.rglob("commit_success.txt"):
        marker.unlink()
    for path, array in arrays.items():
        if isinstance(array, LazyArray):
            with (folder / _array_file(path.split("/"), array.ndim)).open("r+b") as file:
                for chunk in array.chunks():
                    file.write(chunk.data if chunk.dtype.kind in "fiub" else chunk.tobytes())
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{_sha256(file)}  {file.relative_to(folder).as_posix()}\n" for file in files]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def _read_files(folder: Path) -> dict[str, np.ndarray]:
    """Reads every file's bytes, by name; DamagedError unless all are as they were saved."""
    try:
        with (folder / CHECKSUMS).open("rb") as stream:
            lines = stream.read(_MAX_CHECKSUMS).decode().split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedError(f"the checkpoint {folder} has no readable {CHECKSUMS}") from error
    digests = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name in {_METADATA, _TREE} - digests.keys():
        raise DamagedError(
            f"the checkpoint {folder} is damaged: {CHECKSUMS} does not list {name!r}"
        )
    sizes = {name: _file_size(folder, name) for name in digests}
    files: dict[str, np.ndarray] = {}
    queue = sorted(sizes, key=sizes.__getitem__)  # the largest last, which is taken first

    def work() -> None:
        while queue:
            with contextlib.suppress(IndexError):  # another thread took the last one
                name = queue.pop()
                files[name] = _read_file(folder, name, digests[name])

    with ThreadPoolExecutor(_THREADS) as pool:
        for worker in [pool.submit(work) for _ in range(_THREADS)]:
            worker.result()
    return files


def _read_file(folder: Path, name: str, expected: str) -> np.ndarray:
    """Reads a file's bytes; DamagedError if their SHA-256 is not what is expected.

    A large file is mapped copy-on-write: processes share its pages, and writing to the array
    changes a copy of the page. The zoo never changes a file in place; if someone else does, arrays
    that are loaded change too.
    """
    with open(f"{folder}/{name}", "rb", buffering=0) as file:  # noqa: PTH123, faster by a half
        size = os.fstat(file.fileno()).st_size
        content: Any = (
            file.read()
            if size < _MIN_MAPPED_BYTES
            else mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
        )
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DamagedError(
            f"the checkpoint {folder} is damaged: {name!r} was changed; "
            f"it has sha256 {found}, expected {printable(expected)}"
        )
    return np.frombuffer(content, np.uint8)


def _decode_arrays(files: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the arrays of Orbax's tree, each an uncompressed zarr of one chunk; empties files."""
    tree = parse_json(files.pop(_TREE).data)["tree_metadata"]
    for entry in tree.values():
        keys = [key["key"] for key in entry["key_metadata"]]
        header = parse_json(files.pop(f"variables/{'.'.join(keys)}/.zarray").data)
        shape = tuple(header["shape"])
        layout = (header["compressor"], header["filters"], header["order"], header["zarr_format"])
        if layout != (None, None, "C", 2) or tuple(header["chunks"]) != shape:
            raise ValueError(f"{'/'.join(keys)} is not in one uncompressed chunk")
        content = files.pop(_array_file(keys, len(shape)))
        yield "/".join(keys), content.view(np.dtype(header["dtype"])).reshape(shape)


def _array_file(keys: list[str], ndim: int) -> str:
    """Returns the name of the file with an array's only chunk."""
    return f"variables/{'.'.join(keys)}/{'.'.join('0' * max(ndim, 1))}"


def _file_size(folder: Path, name: str) -> int:
    """Returns a file's size in bytes; DamagedError if the folder has no such file."""
    with contextlib.suppress(OSError, ValueError):
        status = os.stat(f"{folder}/{name}")  # noqa: PTH116, hundreds of files
        # Each file has one name, so that none is hashed again and again.
        if stat.S_ISREG(status.st_mode) and not {"", ".", ".."} & set(name.split("/")):
            return status.st_size
    raise DamagedError(f"the checkpoint {folder} is damaged: {name!r} is missing")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
