"""Style networks that PyTorch's example `fast_neural_style` trained."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from zoo.style.network import BLOCKS, CHANNELS, StyleNetwork
from zoo.style.styles import Styles, check_variables
from zoo_pretrained import read
from zoo_pretrained.checkpoint import unflatten_variables
from zoo_pretrained.convert import ConversionError

# Ours: the names of the convolution and of the norm there.
_BLOCKS = {
    f"block{number}/conv{half}": (f"res{number}.conv{half}.conv2d", f"res{number}.in{half}")
    for number in range(1, BLOCKS + 1)
    for half in (1, 2)
}
_LAYERS: Mapping[str, tuple[str, str | None]] = {
    "down1": ("conv1.conv2d", "in1"),
    "down2": ("conv2.conv2d", "in2"),
    "down3": ("conv3.conv2d", "in3"),
    **_BLOCKS,
    "up1": ("deconv1.conv2d", "in4"),
    "up2": ("deconv2.conv2d", "in5"),
    "out": ("deconv3.conv2d", None),
}
# What is left out: biases before norms, and statistics that are not used.
_UNUSED = re.compile(r".*\.conv2d\.bias|.*in\d\.running_(mean|var)|.*\.num_batches_tracked")
# Its network takes and gives pixels of which white is 255.
_WHITE = 255


def convert(path: str | os.PathLike[str], name: str | None = None) -> Styles:
    """Converts a network of PyTorch's example `fast_neural_style` (`TransformerNet`).

    Its padding, nearest-neighbour upsampling and norms are those of `StyleNetwork`. Biases before
    a norm have no effect, and are dropped; so are running statistics, which its first versions
    saved and did not use.

    Args:
      path: a .pth or .safetensors file of its state dict, of any width.
      name: of the style; by default the file's.

    Raises:
      ReadError: the file cannot be read.
      ConversionError: it is another network.
    """
    arrays = dict(read.arrays(path))
    found: dict[str, np.ndarray] = {}
    try:
        for ours, (conv, norm) in _LAYERS.items():
            kernel: np.ndarray = arrays[f"{conv}.weight"].transpose(2, 3, 1, 0).astype(np.float32)
            if ours == "down1":
                kernel = kernel * _WHITE
            if norm is None:
                found[f"params/{ours}/bias"] = arrays[f"{conv}.bias"].astype(np.float32) / _WHITE
                kernel = kernel / _WHITE
            else:
                for part, theirs in (("scale", "weight"), ("shift", "bias")):
                    values = arrays[f"{norm}.{theirs}"].astype(np.float32)
                    found[f"params/{ours}/norm/{part}"] = values[None]
            found[f"params/{ours}/kernel"] = kernel
        width = len(found["params/down1/norm/scale"][0]) / CHANNELS[0]
        network = StyleNetwork(width=width)
        variables = unflatten_variables(found)
        check_variables(network, variables)
        _check_unused(arrays)
    except KeyError as error:
        raise ConversionError(
            f"{os.fspath(path)} is no network of fast_neural_style: it lacks {error.args[0]!r}"
        ) from None
    except (TypeError, ValueError) as error:
        raise ConversionError(
            f"{os.fspath(path)} is no network of fast_neural_style: {error}"
        ) from error
    return Styles(network, variables, (name or Path(path).stem,))


def _check_unused(arrays: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError for an array that the network would need, but has no place for."""
    parts = ("weight", "bias")
    used = {f"{layer}.{part}" for pair in _LAYERS.values() for layer in pair for part in parts}
    for name in arrays:
        if name not in used and not _UNUSED.fullmatch(name):
            raise ValueError(f"there is no place for {name!r}")
