r"""From other frameworks' weights to ours: rules that rename, layouts that change.

A family's rules for a source are data, rows of (pattern, path):

- A pattern is a regular expression for the whole path of the source's module, such as
  layer4.0.conv1; the first that matches tells our path. Groups fill in \1, \2.
- "#" in our path is a block. Sources count blocks in their own ways, so what the group named
  "block" matches is ranked among all that the table's rows match, and the n-th is our n-th: of
  features.0, features.3, features.6 the second becomes stage2/conv1. Convolutions and norms are
  ranked apart, as VGG counts both.
- "*" is a block too, of those alone that have what follows it: of conv2d_4, conv2d_5, conv2d_6 the
  second goes to the second block that has a shortcut.
- A path that ends in "/" is a convolution with its norm: "conv" or "norm" is added, by what the
  source's module is. A bias of the convolution that ours lacks is taken off the norm's mean.
- A third entry says more. (channels, height, width) is the shape that was flattened before a dense
  layer: its rows change from the order CHW to HWC. A path, in which groups fill in too, is another
  module that the source must have for the row to hold.

The separable convolutions of Keras, modules with two kernels, count as two: name/depthwise and
name/pointwise.
"""

import importlib
import pkgutil
import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from zoo_pretrained.checkpoint import Variables, flatten_variables, unflatten_variables
from zoo_pretrained.convert.frameworks import entries, kinds, laid_out
from zoo_pretrained.convert.rules import Rules, matches, targets
from zoo_pretrained.lazy_array import LazyArray


class ConversionError(ValueError):
    """Weights that do not fit; the message lists every entry that is amiss."""


def rules(family: str, source: str) -> Rules:
    """A family's table for a source.

    Args:
      family: the name of its file in `pretrained/convert/` and `zoo/models/`, such as "resnet".
      source: one of `defaults.SOURCES`.

    Raises:
      ValueError: there is none; the message lists what there is.
    """
    families = [m.name for m in pkgutil.iter_modules(__path__) if m.name not in _NO_FAMILIES]
    if family not in families:
        raise ValueError(f"no family is named {family!r}; there are: {', '.join(families)}")
    module = importlib.import_module(f"{__name__}.{family}")
    tables = {name.lower(): table for name, table in vars(module).items() if name.isupper()}
    table: Rules | None = tables.get(source.removesuffix("_tf"))
    if table is None:
        raise ValueError(f"no table maps {family} from {source!r}; from: {', '.join(tables)}")
    return table


def convert(
    arrays: Mapping[str, np.ndarray],
    rules: Rules,
    template: Mapping[str, Any],
    source: str = "torch",
    *,
    optional: Collection[str] = (),
    dtype: DTypeLike = np.float32,
) -> Variables:
    """Converts another framework's weights, without copying any.

    Args:
      arrays: by name, such as "features.0.weight" or "block1_conv1/kernel".
      rules: a family's table, as the head of this file says.
      template: our variables, or their shapes (`jax.eval_shape` of `init`).
      source: how names and arrays are to be read: "torch", "keras" or "flux", or a library whose
        tables there are: "torchvision" and "timm" are "torch".
      optional: our outermost modules, such as "head", that are left out of the result, whether the
        source has them or not.
      dtype: of the result.

    Returns:
      Variables of the template's structure, whose arrays are `LazyArray` views of the source's.

    Raises:
      ConversionError: entries that no rule maps, of ours that nothing fills, or of other shape.
      ValueError: another source.

    Convolution kernels become HWIO (a depthwise one (H, W, 1, C·m)), dense ones (in, out). Those of
    Flux, which are for convolution, are turned by 180 degrees.
    """
    known = {path: tuple(leaf.shape) for path, leaf in flatten_variables(template)}
    shapes = {path: shape for path, shape in known.items() if path.split("/")[1] not in optional}
    found: dict[str, LazyArray] = {}
    offsets: dict[str, np.ndarray] = {}
    amiss: list[str] = []
    listed = entries(arrays, source)
    ours = targets(kinds(listed), rules, known)
    for entry in listed:
        target = ours.get(entry.module)
        if target is None or not entry.role:
            amiss.append(f"{entry.name}: no rule maps it")
            continue
        if target.path.split("/")[0] in optional:
            continue
        full = f"{_COLLECTIONS.get(entry.role, 'params')}/{target.path}/{entry.role}"
        norm = re.sub(r"params(/.+/)conv/bias", r"batch_stats\1norm/mean", full)
        shape = shapes.get(full, shapes.get(norm))
        if shape is None:
            amiss.append(f"{entry.name}: the model has no {full}")
        elif full in found or (full not in shapes and norm in offsets):
            amiss.append(f"{entry.name}: {full} is filled already")
        elif (array := laid_out(entry, shape, target.flattened, dtype, source)) is None:
            amiss.append(f"{entry.name}: {full} has shape {shape}, not {entry.view.shape}")
        elif full in shapes:
            found[full] = array
        else:
            offsets[norm] = np.asarray(entry.view, np.float64)
    for path in offsets.keys() & found.keys():
        found[path] = LazyArray(found[path].view - offsets[path], dtype=dtype)
    amiss += [f"{path}: nothing fills it" for path in shapes if path not in found]
    if amiss:
        raise ConversionError("the weights do not fit the model:\n  " + "\n  ".join(amiss))
    return unflatten_variables(found)


def count_classes(
    arrays: Mapping[str, np.ndarray], rules: Rules, source: str = "torch"
) -> int | None:
    """The number of classes of the source's classifier; None if it has none.

    Args:
      arrays, rules, source: as for `convert`.
    """
    listed = entries(arrays, source)
    ours = matches([entry.module for entry in listed], rules)
    heads = (e for e in listed if e.module in ours and ours[e.module].path == "head")
    return next((e.view.shape[-1] for e in heads if e.role == "kernel"), None)


_COLLECTIONS = {"mean": "batch_stats", "var": "batch_stats"}
_NO_FAMILIES = ("defaults", "frameworks", "rules")
