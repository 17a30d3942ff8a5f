"""Weight files of other frameworks, read without these frameworks and without running anything.

`arrays` reads PyTorch's .pth in both of its formats, safetensors, Keras's .h5, .weights.h5 and
.keras, and the state of a Flux model in JLD2. What a file is, its first bytes say; its name does
not matter. A file can come from anybody: pickles are read by a machine that has no way to call
anything (`pickles`), nothing outside the file is opened, and a file that declares more than a
thousand times its size, or than 16 GiB, is refused.

Arrays are read-only, and views of the memory-mapped file wherever it holds them as they are. Their
byte order and strides are the file's, which must stay as it is while they are in use.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np

from zoo_pretrained.read import files, hdf5, jld2, keras, pth, safetensors
from zoo_pretrained.read.archive import Archive
from zoo_pretrained.read.files import Allowance, ReadError, UnreadableError

__all__ = ["ReadError", "arrays", "source"]

Source = Literal["torch", "safetensors", "keras", "flux"]


def arrays(path: str | os.PathLike[str], inside: str | None = None) -> dict[str, np.ndarray]:
    """The arrays of a weight file by their names, in its order.

    Args:
      path: the file.
      inside: the name of a part, such as a nested model; only what is below it is returned, with
        that much less of a name. It may stand at any depth.

    Returns:
      Names as PyTorch and safetensors have them, "layer1.0.conv1.weight"; in Keras
      "conv1_conv/kernel" (see `keras`); of Flux "layers.1.weight" (see `jld2`). The state dict of
      a checkpoint is taken out of its "state_dict", "model_state_dict", "model" or "model_ema",
      and a "module." that all names begin with is dropped.

    Raises:
      ReadError: the file is missing, damaged, of another kind, holds no arrays or what could run
        code, or has no such part; the message is one line that names it.
    """
    with _errors_name(path):
        data = files.mapped(path)
        kind, wrapper, found = _read(data)
        for array in found.values():
            array.flags.writeable = False
        if not found:
            raise UnreadableError("holds no arrays of weights")
        if inside is None or inside == wrapper:
            return found
        return _inside(found, inside, "/" if kind == "keras" else ".")


def source(path: str | os.PathLike[str]) -> Source:
    """What has written a file: "torch", "safetensors", "keras" or "flux".

    Raises:
      ReadError: as `arrays`, as far as this needs to read.
    """
    with _errors_name(path):
        data = files.mapped(path)
        if _is_zip(data):
            return "keras" if _is_keras(Archive(data, Allowance(len(data)))) else "torch"
        if pth.is_stream(data):
            return "torch"
        if hdf5.start(data) >= 0:
            with hdf5.Store(data, Allowance(len(data))) as store:
                return "flux" if jld2.is_jld2(data, store) else "keras"
        _check_safetensors(data)
        return "safetensors"


def _read(data: np.ndarray) -> tuple[Source, str, dict[str, np.ndarray]]:
    """What wrote a file, the name of the only thing in it or "", and its arrays."""
    allowance = Allowance(len(data))
    if _is_zip(data):
        archive = Archive(data, allowance)
        if _is_keras(archive):
            return "keras", "", keras.from_zip(archive, allowance)
        return "torch", *pth.from_zip(archive, allowance)
    if pth.is_stream(data):
        return "torch", *pth.from_stream(data, allowance)
    if hdf5.start(data) >= 0:
        with hdf5.Store(data, allowance) as store:
            if jld2.is_jld2(data, store):
                return "flux", *jld2.from_store(store)
            return "keras", "", keras.from_store(store)
    _check_safetensors(data)
    return "safetensors", "", safetensors.from_bytes(data)


def _is_zip(data: np.ndarray) -> bool:
    return bytes(data[:4]) == b"PK\x03\x04"


def _is_keras(archive: Archive) -> bool:
    return keras.WEIGHTS in archive.members or keras.CONFIG in archive.members


def _check_safetensors(data: np.ndarray) -> None:
    if not safetensors.is_safetensors(data):
        raise UnreadableError(
            f"begins with {bytes(data[:8])!r}, which is none of the formats that are read: "
            ".pth of torch.save, safetensors, .h5 and .keras of Keras, JLD2 of Flux"
        )


def _inside(found: dict[str, np.ndarray], part: str, mark: str) -> dict[str, np.ndarray]:
    """What lies below a part's name, with that much less of a name."""
    below: dict[str, dict[str, np.ndarray]] = {}
    for name, array in found.items():
        before, middle, after = f"{mark}{name}".partition(f"{mark}{part}{mark}")
        if middle:
            below.setdefault(before, {})[after] = array
    if not below:
        tops = ", ".join(dict.fromkeys(name.partition(mark)[0] for name in found))
        raise UnreadableError(f"has nothing inside {part!r}; at its top are {tops}")
    depth = min(before.count(mark) for before in below)
    outer = [before for before in below if before.count(mark) == depth]
    if len(outer) > 1:
        places = ", ".join(f"{before}{mark}{part}"[1:] for before in outer)
        raise UnreadableError(f"has several parts {part!r}: {places}")
    return below[outer[0]]


@contextmanager
def _errors_name(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns whatever goes wrong with a file into a ReadError with its name."""
    try:
        yield
    except UnreadableError as error:
        raise ReadError(files.one_line(f"{os.fspath(path)} {error}")) from error
    except Exception as error:  # what damage leads to has no common base
        cause = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
        raise ReadError(files.one_line(f"{os.fspath(path)} is damaged: {cause}")) from error
