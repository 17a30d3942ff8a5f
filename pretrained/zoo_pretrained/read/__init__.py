"""Weight files of other frameworks, read without these frameworks and without running anything.

`arrays` reads PyTorch's .pth in both of its formats, safetensors, Keras's .h5, .weights.h5 and
.keras, and the state of a Flux model in JLD2. The first bytes of a file tell its format; its
name does not matter. A file can come from anybody: pickles are read by a machine that cannot call
anything (`pickles`), nothing outside the file is opened, and a file that declares more than
64 times its size, or than 16 GiB, is refused: a file of 10 MB is read or refused in seconds, and in
less than 2 GB of memory.

Arrays are read-only, and views of the memory-mapped file wherever it stores them uncompressed.
Their byte order and strides are the file's, which must not change while they are in use.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np

from zoo_pretrained.printable import MAX_MESSAGE, printable
from zoo_pretrained.read import files, hdf5, jld2, keras, keras_names, pth, safetensors
from zoo_pretrained.read.files import ByteBudget, ReadError, UnreadableError
from zoo_pretrained.read.zip_archive import ZipArchive
from zoo_pretrained.spelling import argument

__all__ = ["ReadError", "arrays", "detect_format", "input_size", "metadata"]

MAX_REASON = 600  # characters of why a file is refused
FileFormat = Literal["torch", "safetensors", "keras", "flux"]


def arrays(path: str | os.PathLike[str], inside: str | None = None) -> dict[str, np.ndarray]:
    """The arrays of a weight file by their names, in its order.

    Args:
      path: the file.
      inside: the path of a dict in a PyTorch checkpoint, such as "model_ema" or
        "model.state_dict"; or the name of a part of the model at any depth, such as a nested model.
        Only the arrays below it are returned, by their names within it.

    Returns:
      Names as PyTorch and safetensors have them, "layer1.0.conv1.weight"; in Keras
      "conv1_conv/kernel" (see `keras`); of Flux "layers.1.weight" (see `jld2`). The state dict of
      a checkpoint is taken out of its "state_dict", "model" or the like (`pth.RAW_WRAPPERS`); where
      averaged weights are beside it, a warning says how to take those. What DataParallel and
      torch.compile put before all names is dropped. The index of safetensors in several files
      (`model.safetensors.index.json`) stands for all of them.

    Raises:
      ReadError: the file is missing, damaged, of another kind, without arrays, or without such a
        part, or it holds what could run code; the message is one line that names the file.
    """
    with _name_in_errors(path):
        data = files.map_file(path)
        file_format, selected, found = _read(data, os.fspath(path), inside)
        for name, array in found.items():
            files.check_name(name)
            array.flags.writeable = False
        if not found:
            raise UnreadableError("holds no arrays of weights")
        if inside is None or inside == selected:
            return found
        return _select_part(found, inside, "/" if file_format == "keras" else ".")


def detect_format(path: str | os.PathLike[str]) -> FileFormat:
    """The format of a weight file: "torch", "safetensors", "keras" or "flux".

    Raises:
      ReadError: as `arrays`, as far as this needs to read.
    """
    with _name_in_errors(path):
        data = files.map_file(path)
        if _is_zip(data):
            return "keras" if _is_dot_keras(ZipArchive(data, ByteBudget(len(data)))) else "torch"
        if pth.is_legacy(data):
            return "torch"
        if hdf5.find_start(data) >= 0:
            with hdf5.Hdf5File(data, ByteBudget(len(data))) as file:
                return "flux" if jld2.is_jld2(data, file) else "keras"
        if not safetensors.is_index(data):
            _check_safetensors(data)
        return "safetensors"


def metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The texts that a safetensors file holds beside its arrays; none of any other file.

    Raises:
      ReadError: as `arrays`, as far as this needs to read.
    """
    with _name_in_errors(path):
        data = files.map_file(path)
        is_one = safetensors.is_safetensors(data) and not _is_zip(data)
        return safetensors.read_metadata(data) if is_one else {}


def input_size(path: str | os.PathLike[str]) -> int | None:
    """The height and width in pixels of the images that the model in a Keras file takes.

    None where the file does not say: one of weights alone, and those of all other frameworks.

    Raises:
      ReadError: as `arrays`, as far as this needs to read.
    """
    with _name_in_errors(path):
        data = files.map_file(path)
        budget = ByteBudget(len(data))
        config = None
        if _is_zip(data) and _is_dot_keras(archive := ZipArchive(data, budget)):
            config = keras.config_of_zip(archive)
        elif not pth.is_legacy(data) and hdf5.find_start(data) >= 0:
            with hdf5.Hdf5File(data, budget) as file:
                config = None if jld2.is_jld2(data, file) else keras.config_of_hdf5(file)
        return keras_names.input_size(config)


def _read(
    data: np.ndarray, path: str, inside: str | None
) -> tuple[FileFormat, str, dict[str, np.ndarray]]:
    """A file's format, the path of the dict in it that was taken or "", and the arrays."""
    budget = ByteBudget(len(data))
    if _is_zip(data):
        archive = ZipArchive(data, budget)
        if _is_dot_keras(archive):
            return "keras", "", keras.from_zip(archive, budget)
        return "torch", *_tell_averages(pth.from_zip(archive, budget, inside), path)
    if pth.is_legacy(data):
        return "torch", *_tell_averages(pth.from_legacy(data, budget, inside), path)
    if hdf5.find_start(data) >= 0:
        with hdf5.Hdf5File(data, budget) as file:
            if jld2.is_jld2(data, file):
                return "flux", *jld2.from_hdf5(file)
            return "keras", "", keras.from_hdf5(file)
    if safetensors.is_index(data):
        return "safetensors", "", pth.drop_prefixes(_read_shards(data, Path(path).parent))
    _check_safetensors(data)
    return "safetensors", "", pth.drop_prefixes(safetensors.from_bytes(data))


def _read_shards(index: np.ndarray, folder: Path) -> dict[str, np.ndarray]:
    """The arrays of several safetensors files, by the names that their index lists."""
    found: dict[str, np.ndarray] = {}
    weight_map = safetensors.parse_index(index)
    for name in dict.fromkeys(weight_map.values()):
        shard = files.map_file(folder / name)
        _check_safetensors(shard)
        found.update(safetensors.from_bytes(shard))
    if missing := weight_map.keys() - found.keys():
        raise UnreadableError(f"lists {min(missing)!r}, which is not in its file")
    return {name: found[name] for name in weight_map}


def _tell_averages(found: pth.StateDict, path: str) -> tuple[str, dict[str, np.ndarray]]:
    """A state dict's path and arrays; warns of averaged weights beside it."""
    if found.averages:
        warnings.warn(
            printable(
                f"{path}: took the weights in {found.path!r}; "
                f"{argument('inside', found.averages)} takes their moving average",
                MAX_MESSAGE,
            ),
            stacklevel=4,
        )
    return found.path, found.arrays


def _is_zip(data: np.ndarray) -> bool:
    return bytes(data[:4]) == b"PK\x03\x04"


def _is_dot_keras(archive: ZipArchive) -> bool:
    return keras.WEIGHTS in archive.members or keras.CONFIG in archive.members


def _check_safetensors(data: np.ndarray) -> None:
    if not safetensors.is_safetensors(data):
        raise UnreadableError(
            f"begins with {bytes(data[:8])!r}, which is none of the formats that are read: "
            ".pth of torch.save, safetensors, .h5 and .keras of Keras, JLD2 of Flux"
        )


def _select_part(arrays: dict[str, np.ndarray], part: str, separator: str) -> dict[str, np.ndarray]:
    """The arrays below a part, by their names within it."""
    below: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        before, middle, after = f"{separator}{name}".partition(f"{separator}{part}{separator}")
        if middle:
            below.setdefault(before, {})[after] = array
    if not below:
        tops = dict.fromkeys(name.partition(separator)[0] for name in arrays)
        raise UnreadableError(
            f"has nothing inside {part!r}; at its top are {files.list_some(tops)}"
        )
    depth = min(before.count(separator) for before in below)
    outer = [before for before in below if before.count(separator) == depth]
    if len(outer) > 1:
        places = (f"{before}{separator}{part}"[1:] for before in outer)
        raise UnreadableError(f"has several parts {part!r}: {files.list_some(places)}")
    return below[outer[0]]


@contextmanager
def _name_in_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns any error into a ReadError that names the file."""
    try:
        yield
    except UnreadableError as error:
        raise ReadError(f"{os.fspath(path)} {printable(error, MAX_REASON)}") from error
    except Exception as error:  # errors of damaged files have no common base class
        cause = printable(f"{type(error).__name__}: {error}".strip(), MAX_REASON)
        raise ReadError(f"{os.fspath(path)} is damaged: {cause}") from error
