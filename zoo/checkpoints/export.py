"""Export of a checkpoint as a safetensors file, with its metadata inside."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from zoo.checkpoints.restyle import restyle
from zoo_pretrained import read
from zoo_pretrained.bounded_json import parse_json
from zoo_pretrained.checkpoint import Checkpoint, flatten_variables
from zoo_pretrained.spelling import argument
from zoo_pretrained.temporary import temporary_folder

# Endings of other formats, in which nothing is exported.
_FOREIGN = {".bin", ".ckpt", ".h5", ".hdf5", ".jld2", ".keras", ".msgpack", ".npz", ".onnx", ".pb"}
_FOREIGN |= {".pt", ".pth", ".tar", ".tflite", ".zip"}

# Under this key of the file's header `export` writes the checkpoint's metadata.
_METADATA = "jax-zoo"


class ExportError(ValueError):
    """A checkpoint cannot be exported so; the message says how it can."""


def export(
    checkpoint: Checkpoint,
    out: str | os.PathLike[str],
    *,
    like: str | os.PathLike[str] | None = None,
) -> None:
    """Writes a checkpoint as a safetensors file; `convert` makes the same checkpoint of it.

    Args:
      checkpoint: what `zoo_pretrained.checkpoint.restore` returns.
      out: the file to make; it appears complete or not at all.
      like: a file of weights of torchvision's or timm's model, whose names and layouts the arrays
        get, so that `load_state_dict` takes them. Its values do not matter, nor its number of
        classes.

    Without `like` arrays keep their dtypes and our layouts, are called by their paths, such as
    "params/stem/conv/kernel", and the metadata is in the file too.

    Raises:
      ConversionError: `like` does not have the arrays of this model.
      ExportError: the file's name is of another format.
      FileExistsError: the file is there already.
      FileNotFoundError: its folder is not.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    target = Path(out)
    if target.suffix.lower() in _FOREIGN:
        wanted = str(target.with_suffix(".safetensors"))
        raise ExportError(
            f"{target} would be a safetensors file by the name of another format: "
            f"pass {argument('out', wanted)}, and {argument('like')} for PyTorch's names"
        )
    if os.path.lexists(target):
        raise FileExistsError(f"{target} is there already")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent}")
    if like is None:
        arrays = dict(flatten_variables(checkpoint.variables))
        header = {_METADATA: json.dumps(checkpoint.metadata)}
    else:
        arrays, header = restyle(checkpoint, like), {"format": "pt"}
    arrays = {name: np.require(array, requirements="C") for name, array in arrays.items()}
    with temporary_folder(target) as temporary:
        try:
            save_file(arrays, temporary / "new", header)
        except SafetensorError as error:  # its message is that of the operating system
            raise OSError(f"{target} cannot be written: {error}") from error
        (temporary / "new").rename(target)


def exported_metadata(file: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The metadata in a file that `export` wrote; None for any other file.

    Raises:
      ReadError: the file cannot be read, or its metadata is no JSON object.
    """
    text = read.metadata(file).get(_METADATA)
    if text is None:
        return None
    try:
        metadata = parse_json(text)
    except ValueError as error:
        raise read.ReadError(f"{os.fspath(file)} has damaged metadata: {error}") from error
    if not isinstance(metadata, dict):
        raise read.ReadError(f"{os.fspath(file)} has damaged metadata: it is no JSON object")
    return metadata
