"""Export of a checkpoint as a safetensors file, with its metadata inside."""

import json
import os
from pathlib import Path

import numpy as np

from zoo.checkpoints.exported import KEY
from zoo.checkpoints.load import ModelWithWeights, as_trained
from zoo.checkpoints.restyle import restyle
from zoo_pretrained.checkpoint import Checkpoint, flatten_variables
from zoo_pretrained.spelling import argument
from zoo_pretrained.temporary import temporary_folder

# Endings of other formats, in which nothing is exported.
_FOREIGN = {".bin", ".ckpt", ".h5", ".hdf5", ".jld2", ".keras", ".msgpack", ".npz", ".onnx", ".pb"}
_FOREIGN |= {".pt", ".pth", ".tar", ".tflite", ".zip"}


class ExportError(ValueError):
    """A checkpoint cannot be exported so; the message says how it can."""


def export(
    model: Checkpoint | ModelWithWeights,
    out: str | os.PathLike[str],
    *,
    like: str | os.PathLike[str] | None = None,
) -> None:
    """Writes a model's weights as a safetensors file, of which `convert` makes a checkpoint again.

    Args:
      model: a checkpoint that `zoo.pretrained.restore` returned, what `zoo.trained` or `zoo.adapt`
        returned, a pair (model, variables), or a model's name.
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
    checkpoint = model if isinstance(model, Checkpoint) else _make_checkpoint(model)
    if like is None:
        arrays = dict(flatten_variables(checkpoint.variables))
        header = {KEY: json.dumps(checkpoint.metadata)}
    else:
        arrays, header = restyle(checkpoint, like), {"format": "pt"}
    arrays = {name: np.require(array, requirements="C") for name, array in arrays.items()}
    with temporary_folder(target) as temporary:
        try:
            save_file(arrays, temporary / "new", header)
        except SafetensorError as error:  # its message is that of the operating system
            raise OSError(f"{target} cannot be written: {error}") from error
        (temporary / "new").rename(target)


def _make_checkpoint(model: ModelWithWeights) -> Checkpoint:
    found = as_trained(model)
    return Checkpoint(dict(found.variables), found.to_metadata(found.info.weights))
