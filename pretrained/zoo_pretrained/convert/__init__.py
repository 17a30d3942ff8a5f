"""Conversion of other frameworks' weights to ours, by rules that rename and layouts that change.

A family's file, such as `resnet`, declares its `SOURCES`: a `Source` by name, with the rules that
map its layers, the constructor arguments that make its architecture, and how its images are
normalised. Nothing else has to know a source; a new family's file is listed in `_FAMILIES` below.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from zoo_pretrained.checkpoint import Variables, flatten_variables, unflatten_variables
from zoo_pretrained.convert import (
    densenet,
    efficientnet_lite,
    faster_rcnn,
    fcos,
    googlenet,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    resnet,
    retinanet,
    squeezenet,
    ssd,
    ssdlite,
    vgg,
    xception,
)
from zoo_pretrained.convert.errors import ConversionError as ConversionError
from zoo_pretrained.convert.errors import Mismatch
from zoo_pretrained.convert.frameworks import classify_modules, lay_out, list_source_arrays
from zoo_pretrained.convert.rules import find_targets, match_rules
from zoo_pretrained.convert.source import Source
from zoo_pretrained.lazy_array import LazyArray

# By the name of the family's file, here and in the zoo's models.
_FAMILIES: dict[str, dict[str, Source]] = {
    "densenet": densenet.SOURCES,
    "efficientnet_lite": efficientnet_lite.SOURCES,
    "faster_rcnn": faster_rcnn.SOURCES,
    "fcos": fcos.SOURCES,
    "googlenet": googlenet.SOURCES,
    "mobilenet_v1": mobilenet_v1.SOURCES,
    "mobilenet_v2": mobilenet_v2.SOURCES,
    "mobilenet_v3": mobilenet_v3.SOURCES,
    "resnet": resnet.SOURCES,
    "retinanet": retinanet.SOURCES,
    "squeezenet": squeezenet.SOURCES,
    "ssd": ssd.SOURCES,
    "ssdlite": ssdlite.SOURCES,
    "vgg": vgg.SOURCES,
    "xception": xception.SOURCES,
}
# The names of all sources.
SOURCES = tuple(dict.fromkeys(name for sources in _FAMILIES.values() for name in sources))


def sources(family: str) -> dict[str, Source]:
    """The sources of a family's weights by name, the likeliest first.

    Args:
      family: the name of its file in `convert/` and `zoo/models/`, such as "resnet".

    Raises:
      ValueError: no family has that name; the message lists the families.
    """
    if family not in _FAMILIES:
        raise ValueError(f"no family is named {family!r}; there are: {', '.join(_FAMILIES)}")
    return dict(_FAMILIES[family])


def find_source(family: str, name: str) -> Source:
    """A family's source by its name, such as "torchvision".

    Raises:
      ValueError: no family has that name, or the family no such source; the message lists what
        there is.
    """
    found = sources(family)
    if name not in found:
        raise ValueError(f"{family} has no source {name!r}; it has: {', '.join(found)}")
    return found[name]


def default_preprocessing(family: str, size: int) -> dict[str, Any]:
    """The preprocessing of weights that do not say theirs: as torchvision's.

    Args:
      family: of any name; where torchvision does not have it, the scale is ImageNet's usual one.
      size: of the input, in pixels.
    """
    source = _FAMILIES.get(family, {}).get("torchvision", Source(rules=()))
    return source.preprocessing(size)


def convert(
    arrays: Mapping[str, np.ndarray],
    source: Source,
    shapes: Mapping[str, Any],
    *,
    optional: Collection[str] = (),
    dtype: DTypeLike = np.float32,
) -> Variables:
    """Converts a source's weights, without copying any.

    Args:
      arrays: by name, such as "features.0.weight" or "block1_conv1/kernel".
      source: where they come from; see `find_source`.
      shapes: of our variables (`jax.eval_shape` of `init`), or the variables themselves.
      optional: our outermost modules, such as "head", that are left out of the result, whether the
        source has them or not.
      dtype: of the result.

    Returns:
      Variables of the structure of `shapes`, whose arrays are `LazyArray` views of the source's.
      Convolution kernels are HWIO (a depthwise one (H, W, 1, C·m)), dense ones (in, out), all for
      cross-correlation.

    Raises:
      ConversionError: there are entries that no rule maps, entries of ours that nothing fills, or
        entries of another shape.
    """
    all_shapes = {path: tuple(leaf.shape) for path, leaf in flatten_variables(shapes)}
    needed = {
        path: shape for path, shape in all_shapes.items() if path.split("/")[1] not in optional
    }
    converted: dict[str, LazyArray] = {}
    biases: dict[str, np.ndarray] = {}  # of convolutions that have none in ours, by the norm's mean
    mismatches: list[Mismatch] = []
    source_arrays = list_source_arrays(arrays, source.framework)
    targets = find_targets(classify_modules(source_arrays), source.rules, all_shapes)
    for source_array in source_arrays:
        target = targets.get(source_array.module)
        if target is None or not source_array.role:
            mismatches.append(Mismatch(source_array.name, "no rule maps it"))
            continue
        if target.path.split("/")[0] in optional:
            continue
        if source_array.view.dtype.kind in "biu":
            reason = f"{source_array.view.dtype} is no type of weights"
            mismatches.append(Mismatch(source_array.name, reason))
            continue
        path = f"{_COLLECTIONS.get(source_array.role, 'params')}/{target.path}/{source_array.role}"
        mean = re.sub(r"params(/.+/)conv/bias", r"batch_stats\1norm/mean", path)
        shape = needed.get(path, needed.get(mean))
        if shape is None:
            mismatches.append(Mismatch(source_array.name, f"the model has no {path}"))
        elif path in converted or (path not in needed and mean in biases):
            mismatches.append(Mismatch(source_array.name, f"{path} is filled already"))
        elif (
            array := lay_out(source_array, shape, target.flattened, dtype, source.framework)
        ) is None:
            reason = f"{path} has shape {shape}, not {source_array.view.shape}"
            mismatches.append(Mismatch(source_array.name, reason))
        elif path in needed:
            converted[path] = array
        else:
            biases[mean] = np.asarray(source_array.view, np.float64)
    for path in biases.keys() & converted.keys():
        converted[path] = LazyArray(converted[path].view - biases[path], dtype=dtype)
    mismatches += [
        Mismatch(path, "nothing fills it", True) for path in needed if path not in converted
    ]
    if mismatches:
        raise ConversionError("the weights do not fit the model:", mismatches)
    return unflatten_variables(converted)


def find_unmapped(arrays: Mapping[str, np.ndarray], source: Source) -> list[str]:
    """The names of the arrays that no rule maps, whatever the model.

    Args:
      arrays, source: as for `convert`.
    """
    source_arrays = list_source_arrays(arrays, source.framework)
    mapped = match_rules([source_array.module for source_array in source_arrays], source.rules)
    return [a.name for a in source_arrays if a.module not in mapped]


def count_parameters(arrays: Mapping[str, np.ndarray], source: Source) -> int:
    """The number of the source's parameters, without running statistics.

    Args:
      arrays, source: as for `convert`.
    """
    source_arrays = list_source_arrays(arrays, source.framework)
    return sum(a.view.size for a in source_arrays if a.role not in _COLLECTIONS)


def count_classes(arrays: Mapping[str, np.ndarray], source: Source) -> int | None:
    """The number of classes of the source's classifier or detector; None if that is not known.

    Args:
      arrays, source: as for `convert`.
    """
    source_arrays = list_source_arrays(arrays, source.framework)
    targets = match_rules([source_array.module for source_array in source_arrays], source.rules)
    return count_kernel_classes(
        {
            targets[a.module].path: a.view.shape
            for a in source_arrays
            if a.module in targets and a.role == "kernel"
        }
    )


# A convolution that scores boxes, among a detector's first.
_CLASS_HEAD = re.compile(r"class_head/(?:conv|map1|map1_pointwise)")


def count_kernel_classes(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """The number of classes of a model with these kernels; None if that is not known.

    A dense layer has an output for each class. A convolution has one for each class and each of
    several boxes, and the one beside it, which gives the boxes, has four for each of them.

    Args:
      shapes: of the kernels, by the paths of our modules.
    """
    for path in ("head", "class_head"):
        if path in shapes:
            return shapes[path][-1]
    for path in filter(_CLASS_HEAD.fullmatch, shapes):
        scores, boxes = shapes[path][-1], shapes.get(path.replace("class", "box"), (0,))[-1]
        if boxes and 4 * scores % boxes == 0:
            return 4 * scores // boxes
    return None


def count_channels(
    arrays: Mapping[str, np.ndarray], source: Source, shapes: Any, input_conv: str
) -> int | None:
    """The number of channels of the images that the arrays are for; None if that is not known.

    Args:
      arrays, source, shapes: as for `convert`.
      input_conv: the path of our first convolution.
    """
    all_shapes = {path: tuple(leaf.shape) for path, leaf in flatten_variables(shapes)}
    source_arrays = list_source_arrays(arrays, source.framework)
    targets = find_targets(classify_modules(source_arrays), source.rules, all_shapes)
    for array in source_arrays:
        target = targets.get(array.module)
        if target and target.path == input_conv and array.role == "kernel":
            return array.view.shape[2] if array.view.ndim == 4 else None
    return None


_COLLECTIONS = {"mean": "batch_stats", "var": "batch_stats"}
