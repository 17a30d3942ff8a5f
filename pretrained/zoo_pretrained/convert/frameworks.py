"""How frameworks name and lay out the arrays of a module."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from zoo_pretrained.lazy_array import LazyArray


class Entry(NamedTuple):
    """One of the source's arrays.

    Args:
      name: the source's own.
      module: the path of the module that it belongs to.
      role: "kernel", "bias", "scale", "mean" or "var", as our layers call it; "" for anything else.
      view: the array; a kernel is (height, width, in, out) or (in, out), for cross-correlation.
    """

    name: str
    module: str
    role: str
    view: np.ndarray


class Dialect(NamedTuple):
    """A framework's ways.

    Args:
      separator: between a module's path and an array's name.
      roles: ours, by the array's name.
      axes: by a kernel's rank, its axes in our order.
      ignored: names of what is no weight.
      turned: whether kernels are for convolution.
      multiplier: whether a depthwise kernel is (height, width, channels, multiplier).
    """

    separator: str
    roles: Mapping[str, str]
    axes: Mapping[int, tuple[int, ...]]
    ignored: str = ""
    turned: bool = False
    multiplier: bool = False


TORCH = Dialect(
    separator=".",
    roles={"weight": "kernel", "bias": "bias", "running_mean": "mean", "running_var": "var"},
    axes={2: (1, 0), 4: (2, 3, 1, 0)},
    ignored="num_batches_tracked",  # PyTorch's own count, on which nothing depends
)
KERAS = Dialect(
    separator="/",
    roles={
        "kernel": "kernel",
        "depthwise_kernel": "kernel",
        "bias": "bias",
        "gamma": "scale",
        "beta": "bias",
        "moving_mean": "mean",
        "moving_variance": "var",
    },
    axes={2: (0, 1), 4: (0, 1, 2, 3)},
    multiplier=True,
)
FLUX = Dialect(
    separator=".",
    roles={"weight": "kernel", "bias": "bias", "γ": "scale", "β": "bias", "μ": "mean", "σ²": "var"},
    axes={2: (0, 1), 4: (2, 3, 1, 0)},  # HDF5 lists the axes of Julia's arrays from the last on
    ignored="λ|σ|ϵ|eps|momentum|affine|track_stats|active|chs|stride|pad|dilation|groups",
    turned=True,
)
DIALECTS = {
    **dict.fromkeys(("torch", "safetensors", "torchvision", "timm", "timm_tf"), TORCH),
    "keras": KERAS,
    "flux": FLUX,
}


def dialect(source: str) -> Dialect:
    """The dialect of a framework or a library; ValueError for an unknown one."""
    if source not in DIALECTS:
        raise ValueError(f"source must be one of {', '.join(DIALECTS)}, got {source!r}")
    return DIALECTS[source]


def entries(arrays: Mapping[str, np.ndarray], source: str) -> list[Entry]:
    """What the source's arrays are, without those that are no weights."""
    ways = dialect(source)
    split = _apart({name: name.rpartition(ways.separator)[::2] for name in arrays})
    made = []
    for name, value in arrays.items():
        (module, leaf), array = split[name], np.asarray(value)
        if re.fullmatch(ways.ignored, leaf) or (ways is FLUX and array.ndim == 0):
            continue
        role = ways.roles.get(leaf, "")
        if role == "kernel" and array.ndim == 1 and ways is TORCH:
            role = "scale"
        elif role == "kernel" and array.ndim in ways.axes:
            array = array.transpose(ways.axes[array.ndim])
            array = array[::-1, ::-1] if ways.turned and array.ndim == 4 else array
        elif role == "kernel":
            role = ""
        made.append(Entry(name, module, role, array))
    return made


def _apart(split: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """(module, variable) by name, with the two parts of a separable convolution as modules."""
    separable = {module for module, leaf in split.values() if leaf == "pointwise_kernel"}
    for name, (module, leaf) in split.items():
        if module in separable and leaf.endswith("wise_kernel"):
            split[name] = f"{module}/{leaf.removesuffix('_kernel')}", "kernel"
    return split


def kinds(found: list[Entry]) -> dict[str, str]:
    """What each module is: "conv", "norm" or "dense"; "" where its arrays do not tell."""
    made: dict[str, str] = {}
    for entry in found:
        kind = ""
        if entry.role in ("scale", "mean", "var"):
            kind = "norm"
        elif entry.role == "kernel":
            kind = "conv" if entry.view.ndim == 4 else "dense"
        made[entry.module] = made.get(entry.module) or kind
    return made


def laid_out(
    entry: Entry,
    shape: tuple[int, ...],
    flattened: tuple[int, int, int] | None,
    dtype: DTypeLike,
    source: str,
) -> LazyArray | None:
    """An entry in the shape that our layer wants; None where it does not fit.

    Args:
      entry: the entry.
      shape: what our layer wants.
      flattened: the (channels, height, width) that a dense kernel's rows were in the source.
      dtype: of the result.
      source: as for `entries`.

    Dense kernels may come from convolutions: of 1x1, or of the size of all that was flattened.
    """
    view = entry.view
    if view.shape == shape:
        if flattened and entry.role == "kernel":
            if np.prod(flattened) != shape[0]:
                return None
            view = view.reshape(*flattened, -1).transpose(1, 2, 0, 3)
        return LazyArray(view, shape, dtype)
    if entry.role != "kernel" or view.ndim != 4:
        return None
    height, width, inside, out = view.shape
    fitting: list[tuple[int, ...]] = [(height * width * inside, out)]
    if dialect(source).multiplier:
        fitting.append((height, width, 1, inside * out))
    return LazyArray(view, shape, dtype) if shape in fitting else None
