"""How frameworks name and lay out the arrays of a module."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from zoo_pretrained.lazy_array import LazyArray


class SourceArray(NamedTuple):
    """One array of a source.

    Args:
      name: the source's name of it.
      module: the path of the module that it belongs to.
      role: what our layers call it: "kernel", "bias", "scale", "mean" or "var"; "" if none of them.
      view: the array; a kernel is (height, width, in, out) or (in, out), for cross-correlation.
    """

    name: str
    module: str
    role: str
    view: np.ndarray


class Framework(NamedTuple):
    """How a framework names and lays out arrays.

    Args:
      name: what messages call it.
      separator: between a module's path and an array's name.
      roles: what our layers call an array, by its name.
      kernel_axes: by the number of a kernel's axes, its axes in our order.
      vector_role: the role of an array that is called a kernel but has one axis.
      ignored: a regular expression for names of arrays that are no weights.
      ignores_scalars: whether arrays without axes are no weights.
      convolves: whether kernels are for convolution in the mathematical sense, so that they have
        to be flipped for cross-correlation.
      depthwise_multiplier: whether a depthwise kernel is (height, width, channels, multiplier).
    """

    name: str
    separator: str
    roles: Mapping[str, str]
    kernel_axes: Mapping[int, tuple[int, ...]]
    vector_role: str = ""
    ignored: str = ""
    ignores_scalars: bool = False
    convolves: bool = False
    depthwise_multiplier: bool = False


TORCH = Framework(
    name="PyTorch",
    separator=".",
    roles={
        "weight": "kernel",
        "bias": "bias",
        "running_mean": "mean",
        "running_var": "var",
        "scale_weight": "scale",  # of torchvision's SSD, which has it beside the layers
    },
    kernel_axes={2: (1, 0), 4: (2, 3, 1, 0)},
    vector_role="scale",  # of a norm, which PyTorch calls its weight too
    ignored="num_batches_tracked",  # PyTorch's own count, on which nothing depends
)
KERAS = Framework(
    name="Keras",
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
    kernel_axes={2: (0, 1), 4: (0, 1, 2, 3)},
    depthwise_multiplier=True,
)
FLUX = Framework(
    name="Flux",
    separator=".",
    roles={"weight": "kernel", "bias": "bias", "γ": "scale", "β": "bias", "μ": "mean", "σ²": "var"},
    kernel_axes={2: (0, 1), 4: (2, 3, 1, 0)},  # HDF5 lists the axes of Julia's arrays in reverse
    ignored="λ|σ|ϵ|eps|momentum|affine|track_stats|active|chs|stride|pad|dilation|groups",
    ignores_scalars=True,
    convolves=True,
)


def list_source_arrays(arrays: Mapping[str, np.ndarray], framework: Framework) -> list[SourceArray]:
    """A framework's arrays, without those that are no weights."""
    split_names = _split_names(arrays, framework.separator)
    source_arrays = []
    for name, value in arrays.items():
        (module, leaf), array = split_names[name], np.asarray(value)
        if re.fullmatch(framework.ignored, leaf) or (framework.ignores_scalars and array.ndim == 0):
            continue
        role = framework.roles.get(leaf, "")
        if role == "kernel" and array.ndim in framework.kernel_axes:
            array = array.transpose(framework.kernel_axes[array.ndim])
            array = array[::-1, ::-1] if framework.convolves and array.ndim == 4 else array
        elif role == "kernel":
            role = framework.vector_role if array.ndim == 1 else ""
        source_arrays.append(SourceArray(name, module, role, array))
    return source_arrays


def _split_names(names: Mapping[str, np.ndarray], separator: str) -> dict[str, tuple[str, str]]:
    """(module, variable) by name; a separable convolution's two kernels become two modules."""
    split_names = {name: name.rpartition(separator)[::2] for name in names}
    separable = {module for module, leaf in split_names.values() if leaf == "pointwise_kernel"}
    for name, (module, leaf) in split_names.items():
        if module in separable and leaf.endswith("wise_kernel"):
            split_names[name] = f"{module}/{leaf.removesuffix('_kernel')}", "kernel"
    return split_names


def classify_modules(source_arrays: Sequence[SourceArray]) -> dict[str, str]:
    """What each module is: "conv", "norm" or "dense"; "" where its arrays do not tell."""
    kinds: dict[str, str] = {}
    for source_array in source_arrays:
        kind = ""
        if source_array.role in ("scale", "mean", "var"):
            kind = "norm"
        elif source_array.role == "kernel":
            kind = "conv" if source_array.view.ndim == 4 else "dense"
        kinds[source_array.module] = kinds.get(source_array.module) or kind
    return kinds


def lay_out(
    source_array: SourceArray,
    shape: tuple[int, ...],
    flattened: tuple[int, int, int] | None,
    dtype: DTypeLike,
    framework: Framework,
) -> LazyArray | None:
    """A source's array in the shape that our layer wants; None where it does not fit.

    Args:
      source_array: the array, as the source names and lays it out.
      shape: what our layer wants.
      flattened: the (channels, height, width) that a dense kernel's rows were in the source.
      dtype: of the result.
      framework: the source's.

    Dense kernels may come from convolutions: of 1x1, or of the size of all that was flattened.
    """
    view = source_array.view
    if view.shape == shape:
        if flattened and source_array.role == "kernel":
            if np.prod(flattened) != shape[0]:
                return None
            view = view.reshape(*flattened, -1).transpose(1, 2, 0, 3)
        return LazyArray(view, shape, dtype)
    if source_array.role != "kernel" or view.ndim != 4:
        return None
    height, width, in_channels, out = view.shape
    fitting: list[tuple[int, ...]] = [(height * width * in_channels, out)]
    if framework.depthwise_multiplier:
        fitting.append((height, width, 1, in_channels * out))
    return LazyArray(view, shape, dtype) if shape in fitting else None
