"""Imported classifiers as models of the zoo: for training, visualisation, and new classes."""

import dataclasses
import functools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import zoo_kernels as kernels
from zoo.inference.preprocessing import Preprocessing
from zoo.inference.trained import Info, Trained, make_labels
from zoo.models.base import Model, ModelEntry
from zoo.models.initializers import ZEROS, record
from zoo.models.layers import Conv, Dense, promote_to_float32
from zoo.onnx.errors import OnnxError, UnsupportedError
from zoo.onnx.graph import Node
from zoo.onnx.head import Head, find_head
from zoo.onnx.interpret import run_graph
from zoo.onnx.model import OnnxModel, from_structure
from zoo.onnx.parameters import PARAMS, pick_parameters
from zoo_pretrained.metadata import check_labels, check_preprocessing

HEAD = "head"
# How images are normalised where a model does not say: as for those of torchvision.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = 224
# How many channels photos have, by which it is known where the channels are.
COLOURS = (1, 3)


class OnnxNode(nn.Module):
    """The place of a node in a model, at which `zoo.features` and others find its output."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """What the node computes: [N, H, W, C], or anything else as it is."""
        return x


@dataclasses.dataclass(frozen=True, eq=False)
class Backbone:
    """What is computed in front of and behind the last layer of a classifier.

    Args:
      model: the whole, without variables.
      head: the last layer.
      paths: of parameters but the head's, in the classifier's variables: a collection, and the path
        in the model's variables with dots between its parts.
      side: height and width of the images; None if they are free.
      channels: of the images.
      channels_last: whether images are [N, H, W, C] in the model too.
    """

    model: OnnxModel
    head: Head
    paths: Mapping[str, tuple[str, str]]
    side: int | None
    channels: int
    channels_last: bool


@functools.lru_cache(maxsize=16)
def take_apart(structure: str) -> Backbone:
    """The parts of a classifier; UnsupportedError for any other model."""
    if not structure:
        raise UnsupportedError(
            "an OnnxClassifier without a graph computes nothing: "
            "zoo.from_onnx(path).as_trained() makes one"
        )
    model = from_structure(structure)
    head = find_head(model)
    shape = model.inputs[0].shape
    sides = shape if shape is not None else (None,) * 4
    if len(sides) != 4:
        raise UnsupportedError(f"a classifier takes images, and not {model.inputs[0]}")
    channels_last = sides[3] in COLOURS and sides[1] not in COLOURS
    channels, *size = (sides[3], *sides[1:3]) if channels_last else sides[1:]
    given = {side for side in size if isinstance(side, int)}
    if len(given) > 1 or (given and not all(isinstance(side, int) for side in size)):
        raise UnsupportedError(f"images must be squares, and not {model.inputs[0]}")
    paths = {
        name: (path[0], ".".join(path[1:]))
        for name, path in model.paths.items()
        if name not in (head.kernel, head.bias)
    }
    count = channels if isinstance(channels, int) else 3
    return Backbone(model, head, paths, next(iter(given), None), count, channels_last)


class OnnxClassifier(Model):
    """A classifier that was imported from ONNX, whose last layer is one of the zoo: "head".

    Images are [N, H, W, C], and so are the outputs of nodes that are maps. Modules are called as
    the nodes, and parameters as in the file, with dots for slashes. In training, norms that the
    file has use the batch's statistics. `zoo.from_onnx(path).as_trained()` makes it.

    Args:
      graph: the model without its weights; see `zoo.onnx.structure`.
    """

    folds_norms = False

    graph: str = ""

    def __repr__(self) -> str:
        return f"{self.title}(num_classes={self.num_classes})"  # a graph is thousands of letters

    @property
    def min_size(self) -> int:
        """The height and width that the model takes, or 1 if these are free."""
        return take_apart(self.graph).side or 1

    @nn.nowrap
    def count_channels(self, variables: Mapping[str, Any]) -> int:
        """How many channels the images have, as the file says."""
        return take_apart(self.graph).channels

    @nn.nowrap
    def variable_shapes(self, channels: int = 3) -> Any:
        """Shapes of the variables; `channels` changes nothing, as the file says how many."""
        backbone = take_apart(self.graph)
        head, shapes = backbone.head, backbone.model.shapes
        kernel = shapes[head.kernel][::-1] if head.is_transposed else shapes[head.kernel]
        count = (self.num_classes,)
        found: dict[str, Any] = {PARAMS: {HEAD: {"kernel": (*kernel[:-1], *count), "bias": count}}}
        for name, (collection, flat) in backbone.paths.items():
            found.setdefault(collection, {})[flat] = shapes[name]
        return jax.tree.map(
            lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
            found,
            is_leaf=lambda node: isinstance(node, tuple),
        )

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [N, H, W, C] → logits [N, num_classes]."""
        self.check_images(x, train)
        backbone = take_apart(self.graph)
        model, head = backbone.model, backbone.head
        outer: dict[str, Any] = {"": None}
        statistics: dict[str, nn.Variable[Any]] = {}
        for name, (collection, flat) in backbone.paths.items():
            shape = model.shapes[name]
            make = record((collection, flat), ZEROS)
            if collection == PARAMS:
                array = self.param(flat, make, shape, jnp.float32)
                outer[name] = model.as_value(name, array)
            else:
                found = self.variable(collection, flat, make, None, shape, jnp.float32)
                outer[name], statistics[name] = found.value, found
        outer |= dict.fromkeys((head.kernel, head.bias))  # which only the head's node reads

        def around(
            node: Node, inputs: Sequence[Any], compute: Callable[[], Sequence[Any]]
        ) -> Sequence[Any]:
            if node is head.node:
                return (self._call_head(inputs[0], head),)
            if train and node.op == "BatchNormalization":
                return (self._call_module(node, self._normalize(node, inputs, statistics)),)
            first, *rest = compute()
            if isinstance(first, jax.Array):  # else it is known, and no part of the program
                first = self._call_module(node, first)
            return first, *rest

        images = x if backbone.channels_last else x.transpose(0, 3, 1, 2)
        (logits,) = run_graph(head.graph, [images.astype(model.inputs[0].dtype)], outer, around)
        return promote_to_float32(logits)

    def _call_head(self, x: jax.Array, head: Head) -> jax.Array:
        """The last layer, of as many classes as the classifier has."""
        if not head.is_conv:
            return Dense(self.num_classes, options=self.layer_options, name=HEAD)(x)
        conv = Conv(self.num_classes, use_bias=True, options=self.layer_options, name=HEAD)
        return conv(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)

    def _call_module(self, node: Node, value: jax.Array) -> jax.Array:
        """The output of a node, through the module of its name."""
        module = OnnxNode(name=module_name(node))
        if value.ndim != 4:
            return module(value)
        return module(value.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)

    def _normalize(
        self, node: Node, inputs: Sequence[Any], statistics: Mapping[str, nn.Variable[Any]]
    ) -> jax.Array:
        """A norm by the batch's statistics, which move the running ones."""
        x, scale, bias = inputs[:3]
        eps = node.attributes.get("epsilon", 1e-5)
        y, mean, var = kernels.batch_norm(jnp.moveaxis(x, 1, -1), scale, bias, eps=eps)
        if not self.is_initializing():
            count = math.prod(x.shape) // x.shape[1]
            batch = mean, var * (count / max(count - 1, 1))
            for name, new in zip(node.inputs[3:], batch, strict=True):
                if name in statistics:  # that of one channel is no parameter
                    running, momentum = statistics[name], self.norm_momentum
                    running.value = momentum * running.value + (1 - momentum) * new
        return jnp.moveaxis(y, -1, 1)


def module_name(node: Node) -> str:
    """The name of a node's module: the node's, with dots for slashes."""
    title = node.name or next(filter(None, node.outputs), node.op)
    return re.sub(r"[/\s]+", ".", title.strip("/")) or node.op


ENTRY = ModelEntry(OnnxClassifier.__name__, "onnx", OnnxClassifier, SIZE)


def as_classifier(
    model: OnnxModel,
    *,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    licence: str | None = None,
) -> Trained:
    """An imported classifier as what `zoo.trained` returns; see `OnnxModel.as_trained`."""
    backbone = take_apart(model.structure)
    head, arrays = backbone.head, dict(pick_parameters(model.variables, model.paths))
    kernel = arrays[head.kernel].T if head.is_transposed else arrays[head.kernel]
    count = kernel.shape[-1]
    bias = arrays[head.bias] if head.bias else jnp.zeros(count, kernel.dtype)
    variables: dict[str, Any] = {PARAMS: {HEAD: {"kernel": kernel, "bias": bias}}}
    for name, (collection, flat) in backbone.paths.items():
        variables.setdefault(collection, {})[flat] = arrays[name]
    definition = OnnxClassifier(num_classes=count, graph=model.structure)
    size = backbone.side or SIZE
    images = jax.ShapeDtypeStruct((1, size, size, backbone.channels), jnp.float32)
    try:
        found = jax.eval_shape(definition.apply, variables, images)
    except OnnxError as error:
        raise UnsupportedError(
            f"a classifier takes an image of {size}x{size}, and this model fails: {error}"
        ) from error
    if found.shape != (1, count):
        raise UnsupportedError(
            f"a classifier gives an array [N, {count}], and this model, of one image of "
            f"{size}x{size}, {list(found.shape)}"
        )
    facts = model.metadata
    if preprocessing is None:
        preprocessing = _find_preprocessing(facts, size, backbone.channels)
    name = facts.get("weights") or model.graph.name or "imported"
    info = Info(
        definition.title,
        name,
        facts.get("source", ""),
        facts.get("licence", "") if licence is None else licence,
        _find_preprocessing(facts, size, backbone.channels)
        if preprocessing is None
        else preprocessing,
        make_labels(_find_labels(facts, count) if labels is None else labels, count),
        None,
    )
    return Trained(definition, variables, info)


def _find_preprocessing(facts: Mapping[str, str], size: int, channels: int) -> Preprocessing:
    """How images become input: as the file says, or as for torchvision's models."""
    try:
        fields = json.loads(facts["preprocessing"])
        check_preprocessing(fields)
        return Preprocessing.from_metadata(fields)
    except (KeyError, ValueError):  # it does not say, or another tool's entry has that name
        usual = Preprocessing(size, round(size * 256 / 224), "bilinear", MEAN, STD)
        return usual.for_channels(channels)


def _find_labels(facts: Mapping[str, str], count: int) -> list[str] | None:
    """The labels that the file has, if there is one for each class."""
    try:
        labels = check_labels(json.loads(facts["labels"]))
    except (KeyError, ValueError):
        return None
    return labels if len(labels) == count else None
