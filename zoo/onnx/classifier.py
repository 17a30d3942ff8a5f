"""Imported classifiers as models of the zoo: for training, visualisation, and new classes."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import zoo_kernels as kernels
from zoo.inference.preprocessing import Preprocessing
from zoo.inference.trained import Info, Trained, make_labels
from zoo.models.base import Model, ModelEntry
from zoo.models.initializers import ZEROS, Initializer, Normal, initialize, record
from zoo.models.layers import Conv, Dense, promote_to_float32
from zoo.onnx.errors import OnnxError, UnsupportedError
from zoo.onnx.graph import Node
from zoo.onnx.head import Head
from zoo.onnx.interpret import run_graph
from zoo.onnx.model import OnnxModel
from zoo.onnx.parameters import PARAMS, pick_parameters
from zoo.onnx.parts import HEAD, ClassifierParts, take_apart
from zoo.runtime.checks import ArgumentError
from zoo_pretrained.bounded_json import parse_json
from zoo_pretrained.metadata import check_labels, check_preprocessing

# How images are normalised where a model does not say: as for those of torchvision.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = 224


class OnnxNode(nn.Module):
    """The place of a node in a model, at which `zoo.features` and others find its output.

    Args:
      counted: the operator, its parameters, and the products of each of its outputs.
    """

    counted: tuple[str, int, int] = ("", 0, 0)

    def __call__(self, x: jax.Array) -> jax.Array:
        """What the node computes: [N, H, W, C], or anything else as it is."""
        return x


class OnnxClassifier(Model):
    """A classifier that was imported from ONNX, whose last layer is one of the zoo: "head".

    Images are [N, H, W, C], and so are the outputs of nodes that are maps. Modules are called as
    the nodes, and parameters as in the file, with dots for slashes. In training, norms that the
    file has use the batch's statistics, and move the running ones by `norm_momentum`.
    `zoo.from_onnx(path).as_trained()` makes it.

    Args:
      graph: the model without its weights; see `zoo.onnx.structure`.
    """

    is_imported = True

    graph: str = ""

    def __repr__(self) -> str:
        return f"{self.title}(num_classes={self.num_classes})"  # a graph is thousands of letters

    @property
    def parts(self) -> ClassifierParts:
        """What it consists of."""
        return take_apart(self.graph)

    @property
    def min_size(self) -> int:
        """The height and width that the model takes, or 1 if these are free."""
        return self.parts.side or 1

    @property
    def usual_size(self) -> int:
        """The height and width that the model takes, or 224 if these are free."""
        return self.parts.side or SIZE

    @nn.nowrap
    def count_channels(self, variables: Mapping[str, Any]) -> int:
        """How many channels the images have, as the file says."""
        return self.parts.channels

    @nn.nowrap
    def init(self, rngs: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Fresh variables; as of other models, but images are not looked at."""
        parts = self.parts
        key = rngs["params"] if isinstance(rngs, Mapping) else rngs
        initializers: dict[tuple[str, ...], Initializer] = {
            path: parts.initializers[name] for name, path in parts.paths.items()
        }
        initializers[PARAMS, HEAD, "kernel"] = Normal(0.01)
        initializers[PARAMS, HEAD, "bias"] = ZEROS
        variables: dict[str, Any] = initialize(key, self.variable_shapes(), initializers)
        return variables

    @nn.nowrap
    def variable_shapes(self, channels: int = 3) -> Any:
        """Shapes and types of the variables; the file says how many channels the images have."""
        parts, head = self.parts, self.parts.head
        kernel, _ = _head_arrays(parts.model, head, parts.model.parameters)
        sides = kernel.shape[::-1] if head.is_transposed else kernel.shape
        layer = {"kernel": (*sides[:-1], self.num_classes), "bias": (self.num_classes,)}
        found: dict[str, Any] = {PARAMS: {}}
        for name, (collection, flat) in parts.paths.items():
            found.setdefault(collection, {})[flat] = parts.model.parameters[name]
        found[PARAMS][HEAD] = {  # the last, as training slows down what comes first
            name: jax.ShapeDtypeStruct(shape, kernel.dtype) for name, shape in layer.items()
        }
        return found

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [N, H, W, C] → logits [N, num_classes]."""
        self.check_images(x, train)
        parts, model, head = self.parts, self.parts.model, self.parts.head
        outer: dict[str, Any] = {}
        statistics: dict[str, nn.Variable[Any]] = {}
        for name, (collection, flat) in parts.paths.items():
            shape, dtype = model.parameters[name].shape, model.parameters[name].dtype
            make = record((collection, flat), parts.initializers[name])
            if collection == PARAMS:
                array = self.param(flat, make, shape, dtype)
            else:
                key = self.make_rng(PARAMS) if self.is_initializing() else None
                statistics[name] = self.variable(collection, flat, make, key, shape, dtype)
                array = statistics[name].value
            outer[name] = model.as_value(name, _as_half(array, dtype))
        outer |= dict.fromkeys((head.kernel, head.bias))  # which only the head's node reads

        def around(
            node: Node, inputs: Sequence[Any], compute: Callable[[], Sequence[Any]]
        ) -> Sequence[Any]:
            if node is head.node:
                return (self._call_head(inputs[0], head),)
            if train and _has_running_statistics(node, statistics):
                return (self._call_module(node, self._normalize(node, inputs, statistics)),)
            first, *rest = compute()
            if isinstance(first, jax.Array):  # else it is known, and no part of the program
                first = self._call_module(node, first)
            return first, *rest

        images = x if parts.channels_last else x.transpose(0, 3, 1, 2)
        (logits,) = run_graph(head.graph, [_as_half(images, model.inputs[0].dtype)], outer, around)
        return promote_to_float32(logits)

    def _call_head(self, x: jax.Array, head: Head) -> jax.Array:
        """The last layer, of as many classes as the classifier has; in the input's type."""
        if head.node.op != "Conv":
            layer = Dense(self.num_classes, options=self.layer_options, name=HEAD)
            return layer(x).astype(x.dtype)
        conv = Conv(self.num_classes, use_bias=True, options=self.layer_options, name=HEAD)
        return conv(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2).astype(x.dtype)

    def _call_module(self, node: Node, value: jax.Array) -> jax.Array:
        """The output of a node, through the module of its name."""
        module = OnnxNode(self.parts.counts[node], name=self.parts.modules[node])
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
            for name, new in zip(node.inputs[3:5], batch, strict=True):
                running, momentum = statistics[name], self.norm_momentum
                moved = momentum * running.value + (1 - momentum) * new
                running.value = moved.astype(running.value.dtype)
        return jnp.moveaxis(y, -1, 1)


ENTRY = ModelEntry(OnnxClassifier.__name__, "onnx", OnnxClassifier, SIZE)


def _has_running_statistics(node: Node, statistics: Mapping[str, Any]) -> bool:
    """Whether a node is a norm that gives one output, with statistics that can move."""
    return (
        node.op == "BatchNormalization"
        and not any(node.outputs[1:])
        and all(name in statistics for name in node.inputs[3:5])
    )


def _as_half(array: Any, dtype: np.dtype | None) -> Any:
    """An array in the type that a model in half precision needs; unchanged for any other model."""
    return array if dtype is None or dtype.itemsize > 2 else array.astype(dtype)


def _head_arrays(model: OnnxModel, head: Head, arrays: Mapping[str, Any]) -> tuple[Any, Any]:
    """The last layer's weights and its bias or None: parameters, or single numbers."""
    kernel, bias = (
        arrays[name] if name in arrays else model.graph.constants.get(name)
        for name in (head.kernel, head.bias)
    )
    return kernel, bias


def as_classifier(
    model: OnnxModel,
    *,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    licence: str | None = None,
) -> Trained:
    """An imported classifier as what `zoo.trained` returns; see `OnnxModel.as_trained`."""
    parts = take_apart(model.structure)
    head, arrays = parts.head, dict(pick_parameters(model.variables, model.paths))
    weights, offsets = _head_arrays(model, head, arrays)
    kernel = jnp.asarray(head.as_layer(weights))
    bias = jnp.zeros(head.num_classes, kernel.dtype)
    if offsets is not None:
        bias = jnp.asarray(offsets).reshape(-1)
    variables: dict[str, Any] = {PARAMS: {HEAD: {"kernel": kernel, "bias": bias}}}
    for name, (collection, flat) in parts.paths.items():
        variables.setdefault(collection, {})[flat] = arrays[name]
    definition = OnnxClassifier(num_classes=head.num_classes, graph=model.structure)
    size = definition.usual_size
    _check_logits(model, definition, variables, size)
    facts = model.metadata
    usual = Preprocessing(size, round(size * 256 / 224), "bilinear", MEAN, STD)
    usual = usual.for_channels(parts.channels)
    if preprocessing is None:
        preprocessing = _find_preprocessing(facts) or usual
    fits = parts.side in (None, preprocessing.size) and len(preprocessing.mean) == parts.channels
    if not fits:
        raise ArgumentError(
            f"preprocessing must give images of {parts.side or 'any'} pixels and {parts.channels} "
            f"channels, as the model takes, got {preprocessing.size} and {len(preprocessing.mean)}"
        )
    if labels is None:
        labels = _find_labels(facts, head.num_classes)
    elif len(check_labels(labels)) != head.num_classes:
        raise ArgumentError(
            f"labels must have a name for each of {head.num_classes} classes, got {len(labels)}"
        )
    info = Info(
        definition.title,
        facts.get("weights") or model.graph.name or "imported",
        facts.get("source", ""),
        facts.get("licence", "") if licence is None else licence,
        preprocessing,
        make_labels(labels, head.num_classes),
        None,
    )
    return Trained(definition, variables, info)


def _check_logits(
    model: OnnxModel, definition: OnnxClassifier, variables: Mapping[str, Any], size: int
) -> None:
    """Raises UnsupportedError unless a model gives a number for each class of an image."""
    parts = definition.parts
    shape = 1, size, size, parts.channels
    wanted = 1, definition.num_classes
    dtype = model.inputs[0].dtype or jnp.float32
    given = shape if parts.channels_last else (1, parts.channels, size, size)
    try:
        found = [
            jax.eval_shape(model.apply, model.variables, jax.ShapeDtypeStruct(given, dtype)),
            jax.eval_shape(definition.apply, variables, jax.ShapeDtypeStruct(shape, jnp.float32)),
        ]
    except OnnxError as error:
        raise UnsupportedError(
            f"a classifier takes an image of {size}x{size}, and this model fails: {error}"
        ) from error
    for each in found:
        if each.shape != wanted:
            raise UnsupportedError(
                f"a classifier gives an array [N, {definition.num_classes}], and this model, of "
                f"one image of {size}x{size}, {list(each.shape)}"
            )


def _find_preprocessing(facts: Mapping[str, str]) -> Preprocessing | None:
    """How images become input, if the file says it."""
    try:
        fields = parse_json(facts["preprocessing"])
        check_preprocessing(fields)
    except (KeyError, ValueError):  # it does not, or another tool's entry has that name
        return None
    return Preprocessing.from_metadata(fields)


def _find_labels(facts: Mapping[str, str], count: int) -> list[str] | None:
    """The labels that the file has, if there is one for each class."""
    try:
        labels = check_labels(parse_json(facts["labels"]))
    except (KeyError, ValueError):
        return None
    return labels if len(labels) == count else None
