"""From other frameworks' weights to ours: rules that rename, layouts that change.

A family's rules are data: pairs of a pattern for the source's module path and our module path.
A number at the head of ours, as in "7/expand/conv", counts blocks over all stages from zero, which
is how many sources number them; it becomes that block's own path, "stage4/block1".
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from pretrained.store import Variables, leaves

Rules = Sequence[tuple[str, str]]


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
      rules: (pattern, path) pairs; the first that matches a whole module path names ours.
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
    blocks = _blocks(shapes)
    found: dict[str, np.ndarray] = {}
    amiss: list[str] = []
    for name, value in state.items():
        module, _, leaf = name.rpartition(".")
        if leaf == "num_batches_tracked":  # PyTorch's own count, on which nothing depends
            continue
        path, array = _rename(module, rules, blocks), np.asarray(value, dtype)
        if path is None or leaf not in _LEAVES or (leaf == "weight" and array.ndim not in _WEIGHTS):
            amiss.append(f"{name}: no rule maps it")
            continue
        collection, ours = _LEAVES[leaf]
        if leaf == "weight":
            ours, axes = _WEIGHTS[array.ndim]
            array = array.transpose(axes)
        full = f"{collection}/{path}/{ours}"
        if full not in shapes:
            amiss.append(f"{name}: the model has no {full}")
        elif full in found:
            amiss.append(f"{name}: {full} is filled already")
        elif shapes[full] != array.shape:
            amiss.append(f"{name}: {full} has shape {shapes[full]}, not {array.shape}")
        else:
            found[full] = np.ascontiguousarray(array)
    amiss += [f"{path}: nothing fills it" for path in shapes if path not in found]
    if amiss:
        raise ConversionError("the weights do not fit the model:\n  " + "\n  ".join(amiss))
    return _nested(found)


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
    return _nested({p: a[::-1, ::-1] if turn and a.ndim == 4 else a for p, a in leaves(variables)})


# A leaf of PyTorch's → our collection and name; "weight" depends on its rank.
_LEAVES = {
    "weight": ("params", ""),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}
_WEIGHTS = {1: ("scale", (0,)), 2: ("kernel", (1, 0)), 4: ("kernel", (2, 3, 1, 0))}


def _rename(module: str, rules: Rules, blocks: Sequence[str]) -> str | None:
    for pattern, path in rules:
        match = re.fullmatch(pattern, module)
        if match:
            head, slash, rest = match.expand(path).partition("/")
            if not head.isdigit():
                return f"{head}{slash}{rest}"
            return f"{blocks[int(head)]}/{rest}" if int(head) < len(blocks) else None
    return None


def _blocks(paths: Iterable[str]) -> list[str]:
    """The paths of all blocks, in order."""
    numbers = {
        (int(match[1]), int(match[2]))
        for path in paths
        if (match := re.match(r"params/stage(\d+)/block(\d+)/", path))
    }
    return [f"stage{stage}/block{block}" for stage, block in sorted(numbers)]


def _nested(flat: Mapping[str, np.ndarray]) -> Variables:
    tree: Variables = {}
    for path, array in flat.items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = array
    return tree
