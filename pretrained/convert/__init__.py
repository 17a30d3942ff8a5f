r"""From other frameworks' weights to ours: rules that rename, layouts that change.

A family's rules are data, rows of (pattern, path):

- A pattern is a regular expression for the whole path of the source's module, such as
  layer4.0.conv1; the first that matches tells our path. Groups fill in \1, \2.
- "#" in our path is a block. Sources count blocks in their own ways, so what the group named
  "block" matches is ranked among all that the table's rows match, and the n-th is our n-th: of
  features.0, features.3, features.6 the second becomes stage2/conv1. Convolutions and norms are
  ranked apart, as VGG counts both.
- A path that ends in "/" is a convolution with its norm: "conv" or "norm" is added, by what the
  source's module is.
- A third entry, (channels, height, width), is the shape that was flattened before a dense layer:
  its rows change from the order CHW to HWC.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from pretrained.store import Variables, leaves, nested

Rules = Sequence[tuple[str, str] | tuple[str, str, tuple[int, int, int]]]


class ConversionError(ValueError):
    """Weights that do not fit; the message lists every entry that is amiss."""


def from_torch(
    state: Mapping[str, np.ndarray],
    rules: Rules,
    template: Mapping[str, Any],
    dtype: DTypeLike = np.float32,
) -> Variables:
    """Converts a PyTorch state dict.

    Args:
      state: arrays by name, such as "features.0.weight".
      rules: a family's table, as the head of this file says.
      template: our variables, or their shapes (`jax.eval_shape` of `init`).
      dtype: of the result.

    Returns:
      Variables of the template's structure.

    Raises:
      ConversionError: entries that no rule maps, of ours that nothing fills, or of other shape.

    Convolution kernels go from OIHW to HWIO (a depthwise one from (C·m, 1, H, W) to
    (H, W, 1, C·m), the same permutation), dense ones from (out, in) to (in, out).
    """
    shapes = {path: tuple(leaf.shape) for path, leaf in leaves(template)}
    targets = _targets(state, rules, _blocks(shapes))
    found: dict[str, np.ndarray] = {}
    amiss: list[str] = []
    for name, value in state.items():
        module, _, leaf = name.rpartition(".")
        if leaf == "num_batches_tracked":  # PyTorch's own count, on which nothing depends
            continue
        target, array = targets.get(module), np.asarray(value, dtype)
        if target is None or leaf not in _LEAVES or (leaf == "weight" and array.ndim not in _KINDS):
            amiss.append(f"{name}: no rule maps it")
            continue
        collection, ours = _LEAVES[leaf]
        if leaf == "weight":
            ours, axes = _WEIGHTS[array.ndim]
            array = array.transpose(axes)
        full = f"{collection}/{target.path}/{ours}"
        if full not in shapes:
            amiss.append(f"{name}: the model has no {full}")
        elif full in found:
            amiss.append(f"{name}: {full} is filled already")
        elif shapes[full] != array.shape:
            amiss.append(f"{name}: {full} has shape {shapes[full]}, not {array.shape}")
        else:
            if target.flattened and leaf == "weight":
                cells = array.reshape(*target.flattened, -1)
                array = cells.transpose(1, 2, 0, 3).reshape(array.shape)
            found[full] = np.ascontiguousarray(array)
    amiss += [f"{path}: nothing fills it" for path in shapes if path not in found]
    if amiss:
        raise ConversionError("the weights do not fit the model:\n  " + "\n  ".join(amiss))
    return nested(found)


def as_cross_correlation(variables: Mapping[str, Any], convention: str) -> Variables:
    """Variables whose convolution kernels are for cross-correlation, as the models run it.

    Args:
      variables: nested dictionaries of arrays; kernels are HWIO.
      convention: "cross-correlation" (JAX, PyTorch, TensorFlow) or "convolution" (Flux, Theano),
        whose kernels are turned by 180 degrees.

    Raises:
      ValueError: another convention.
    """
    if convention not in ("cross-correlation", "convolution"):
        raise ValueError(
            f'a kernel convention is "cross-correlation" or "convolution", got {convention!r}'
        )
    turn = convention == "convolution"
    return nested({p: a[::-1, ::-1] if turn and a.ndim == 4 else a for p, a in leaves(variables)})


# A leaf of PyTorch's → our collection and name; "weight" depends on its rank.
_LEAVES = {
    "weight": ("params", ""),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}
_WEIGHTS = {1: ("scale", (0,)), 2: ("kernel", (1, 0)), 4: ("kernel", (2, 3, 1, 0))}
_KINDS = {1: "norm", 2: "dense", 4: "conv"}  # what a module is, by the rank of its weight


class _Target(NamedTuple):
    """Where a module's arrays go."""

    path: str
    flattened: tuple[int, int, int] | None


def _targets(
    state: Mapping[str, np.ndarray], rules: Rules, blocks: Sequence[str]
) -> dict[str, _Target]:
    """For each of the source's modules that a rule matches, where its arrays go."""
    kinds = {
        name.removesuffix(".weight"): _KINDS[np.ndim(value)]
        for name, value in state.items()
        if name.endswith(".weight") and np.ndim(value) in _KINDS
    }
    matches: dict[str, tuple[re.Match[str], str, tuple[int, int, int] | None]] = {}
    for module in dict.fromkeys(name.rpartition(".")[0] for name in state):
        for pattern, path, *flattened in rules:
            match = re.fullmatch(pattern, module)
            if match:
                matches[module] = match, path, flattened[0] if flattened else None
                break
    ranks = {
        kind: sorted(
            {
                _natural(match["block"])
                for module, (match, path, _) in matches.items()
                if "#" in path and kinds.get(module) == kind
            }
        )
        for kind in _KINDS.values()
    }
    targets = {}
    for module, (match, path, shape) in matches.items():
        kind = kinds.get(module, "")
        path = match.expand(path) + (kind if path.endswith("/") else "")
        if "#" in path:
            rank = ranks[kind].index(_natural(match["block"])) if kind else len(blocks)
            if rank >= len(blocks):
                continue  # the model has fewer
            path = path.replace("#", blocks[rank])
        targets[module] = _Target(path, shape)
    return targets


def _natural(text: str) -> tuple[Any, ...]:
    """Sorts "4.10" behind "4.9", and "3b" before "4a"."""
    return tuple(int(part) if part.isdigit() else part for part in re.findall(r"\d+|[a-z]+", text))


def _blocks(paths: Iterable[str]) -> list[str]:
    """The paths of all blocks, or of the convolutions that stages have in their place, in order."""
    numbers = {
        (int(match[1]), int(match[3])): match[0].removeprefix("params/").rstrip("/")
        for path in paths
        if (match := re.match(r"params/stage(\d+)/(block|conv)(\d+)/", path))
    }
    return [path for _, path in sorted(numbers.items())]
