"""A checkpoint's arrays under the names that PyTorch's models have."""

import os

import numpy as np

from zoo.models.base import find_model
from zoo_pretrained import convert as conversion
from zoo_pretrained import read
from zoo_pretrained.checkpoint import Checkpoint
from zoo_pretrained.convert import ConversionError
from zoo_pretrained.convert.frameworks import TORCH
from zoo_pretrained.convert.invert import invert
from zoo_pretrained.spelling import argument


def restyle(checkpoint: Checkpoint, like: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint by the names in a file of torchvision's or timm's model.

    Raises:
      ReadError: the file cannot be read.
      ConversionError: the file is not PyTorch's, or its names are not those of this model.
    """
    given = argument("like", os.fspath(like))
    if read.detect_format(like) not in ("torch", "safetensors"):
        raise ConversionError(
            f"{given} is not a file of PyTorch's; names of others are not written"
        )
    if checkpoint.metadata.get("kernel_convention", "cross-correlation") != "cross-correlation":
        raise ConversionError(
            "PyTorch's kernels are for cross-correlation: restore the checkpoint with "
            "kernel_convention='cross-correlation', which is the default"
        )
    entry = find_model(str(checkpoint.metadata.get("model")))
    model = entry.constructor()
    template = read.arrays(like)
    failures = []
    for source in conversion.sources(entry.family).values():
        if source.framework is TORCH:
            try:
                return invert(
                    checkpoint.variables, source, template, model.input_conv, model.classifier
                )
            except ConversionError as error:
                failures.append(error)
    closest = min(failures, key=lambda error: len(error.mismatches))
    summary = f"{given} does not have the arrays of this {entry.name}"
    raise ConversionError(summary, closest.mismatches)
