"""Names of the variables of Keras's layers, the same for all of its formats.

The names are those of Keras 2: kernel, bias, gamma, beta, moving_mean, moving_variance,
depthwise_kernel, pointwise_kernel. Keras 3 saves variables by number, and calls a depthwise
layer's kernel just kernel; Keras 1 had W and b.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zoo_pretrained.read.files import UnreadableError, check_name

# In the order in which Keras 3 numbers them, by the layer's class in snake case.
_VARIABLES = {
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "sync_batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "layer_normalization": ("gamma", "beta"),
    "group_normalization": ("gamma", "beta"),
    "dense": ("kernel", "bias"),
    "conv1d": ("kernel", "bias"),
    "conv2d": ("kernel", "bias"),
    "conv3d": ("kernel", "bias"),
    "conv1d_transpose": ("kernel", "bias"),
    "conv2d_transpose": ("kernel", "bias"),
    "conv3d_transpose": ("kernel", "bias"),
    "depthwise_conv1d": ("depthwise_kernel", "bias"),
    "depthwise_conv2d": ("depthwise_kernel", "bias"),
    "separable_conv1d": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "separable_conv2d": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "normalization": ("mean", "variance", "count"),
    "embedding": ("embeddings",),
    "p_re_lu": ("alpha",),
}
# The settings that switch a variable on.
_SWITCHES = {"gamma": "scale", "beta": "center", "bias": "use_bias"}
_OLD_NAMES = {
    "W": "kernel",
    "b": "bias",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
}
_ALL_NAMES = {name for names in _VARIABLES.values() for name in names} | _OLD_NAMES.keys()


class Layer(NamedTuple):
    """A layer in a model's configuration.

    Args:
      name: such as "conv1_bn".
      kind: its class in snake case, such as "batch_normalization".
      config: its settings, with the "layers" of a nested model; None where a file has none.
    """

    name: str
    kind: str
    config: Mapping[str, Any] | None


def layers(config: Mapping[str, Any] | None) -> Iterator[Layer]:
    """The layers of a model's configuration; a nested model is one layer."""
    for entry in (config or {}).get("layers", ()):
        settings = entry.get("config", {})
        name = settings.get("name") or entry.get("name")
        if isinstance(name, str) and isinstance(settings, Mapping):
            yield Layer(check_name(name), _to_snake_case(entry["class_name"]), settings)


def input_size(config: Mapping[str, Any] | None) -> int | None:
    """The height and width of a model's images; None where they are not given or differ."""
    settings = [layer.config or {} for layer in layers(config)]
    for given in (*settings, config or {}):
        for key in ("batch_shape", "batch_input_shape", "build_input_shape"):
            match given.get(key):
                case [_, int(height), int(width), _] if height == width > 0:
                    return height
    return None


class Kinds:
    """The kinds of all layers by path, including those inside nested models.

    Args:
      config: the model's; None where there is none.
    """

    def __init__(self, config: Mapping[str, Any] | None) -> None:
        self._by_path: dict[str, str] = {}
        self._by_name: dict[str, set[str]] = {}  # of layers inside nested models
        self._add(config, "")

    def find(self, path: str) -> str:
        """A layer's kind by its path, in which outer models may be missing; "" if not known."""
        end, name = path, path.rpartition("/")[2]
        while end:
            if end in self._by_path:
                return self._by_path[end]
            end = end.partition("/")[2]
        candidates = self._by_name.get(name, ())
        return next(iter(candidates)) if len(candidates) == 1 else ""

    def _add(self, config: Mapping[str, Any] | None, prefix: str) -> None:
        for layer in layers(config):
            path = check_name(f"{prefix}{layer.name}")
            self._by_path[path] = layer.kind
            if "/" in path:
                self._by_name.setdefault(path.rpartition("/")[2], set()).add(layer.kind)
            self._add(layer.config, f"{path}/")


def name_variables(
    kind: str, variables: Sequence[np.ndarray], config: Mapping[str, Any] | None
) -> list[str]:
    """Names of the variables that Keras 3 saved as 0, 1, 2….

    Args:
      kind: the layer's class in snake case, or another name where the file has no class.
      variables: in order, at least one.
      config: the layer's settings; None where the file has none. A batch norm of three variables
        is then taken for one without gamma, as in Inception.
    """
    names = list(_VARIABLES.get(kind) or _guess_names(variables))
    if config is not None:
        names = [name for name in names if config.get(_SWITCHES.get(name, ""), True)]
    elif "moving_mean" in names:
        names = names[-len(variables) :]
    if "moving_mean" in names and len(names) > len(variables):
        raise UnreadableError(f"has a batch norm of {len(variables)} variables, not {names}")
    if len(names) < len(variables):
        names += [str(number) for number in range(len(names), len(variables))]
    return names[: len(variables)]


def normalize_name(variable: str, layer: str) -> str:
    """The name in use today of a stored name, such as "kernel_1:0" or "block1_conv1_W_1:0"."""
    name = variable.partition(":")[0].removeprefix(f"{layer}_")
    if name not in _ALL_NAMES and name.rpartition("_")[0] in _ALL_NAMES:
        name = name.rpartition("_")[0]  # numbered because another model was there before
    return _OLD_NAMES.get(name, name)


def is_depthwise(kind: str, kernel: np.ndarray, bias: np.ndarray | None) -> bool:
    """Whether a kernel is a depthwise layer's.

    Decided by the layer's class; where the file has none, by the kernel's shape, which would be
    (height, width, in, multiplier).
    """
    if kind in _VARIABLES:
        return kind.startswith("depthwise")
    if kernel.ndim != 4 or kernel.shape[0] * kernel.shape[1] == 1:
        return False
    channels, multiplier = kernel.shape[2:]
    if bias is not None:
        return bias.shape == (channels * multiplier,) != (multiplier,)
    return multiplier == 1 != channels


def _guess_names(variables: Sequence[np.ndarray]) -> tuple[str, ...]:
    """Names of variables by their shapes."""
    ranks = [variable.ndim for variable in variables]
    if ranks == [1] * 4 and len({variable.shape for variable in variables}) == 1:
        return _VARIABLES["batch_normalization"]
    if ranks[1:] in ([], [1]) and ranks[0] > 1:
        bias = variables[1] if len(variables) > 1 else None
        first = "depthwise_kernel" if is_depthwise("", variables[0], bias) else "kernel"
        return first, "bias"
    return ()


def _to_snake_case(name: str) -> str:
    """A class's name as Keras spells it in a group's name: "Conv2D" → "conv2d"."""
    name = check_name(name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
