"""Imported classifiers as models of the zoo: for training, visualisation, and new classes."""

import collections
import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import zoo_kernels as kernels
from zoo.inference.preprocessing import Preprocessing
from zoo.inference.trained import Info, Trained, make_labels
from zoo.models.base import Model
from zoo.models.initializers import ZEROS, record
from zoo.models.layers import Dense, promote_to_float32
from zoo.onnx.errors import UnsupportedError
from zoo.onnx.graph import Node, TensorInfo
from zoo.onnx.interpret import run_graph
from zoo.onnx.model import OnnxModel
from zoo.onnx.parameters import PARAMS, pick_parameters

HEAD = "head"
# How images are normalised where a model does not say: as for those of torchvision.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = 224


class OnnxNode(nn.Module):
    """The place of a node in a model, at which `zoo.features` and others find its output."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """What the node computes: [N, H, W, C], or anything else as it is."""
        return x


class OnnxClassifier(Model):
    """A classifier that was imported from ONNX, without its last layer, and a layer in its place.

    Images are [N, H, W, C], and so are the outputs of nodes that are maps. Modules are called as
    the nodes, and parameters as in the file, with dots for slashes. In training, norms that the
    file has use the batch's statistics.

    Args:
      imported: the model; its own last layer is `head`.
      side: height and width of the images, if the model takes only these.
    """

    folds_norms = False

    imported: OnnxModel | None = None
    side: int = 1

    @property
    def min_size(self) -> int:
        """The height and width that the model takes, or 1 if these are free."""
        return self.side

    @property
    def title(self) -> str:
        """The name of the graph."""
        assert self.imported is not None
        return self.imported.graph.name or "OnnxClassifier"

    @property
    def arguments(self) -> dict[str, Any]:
        """No arguments make it again, and no checkpoint can name it: UnsupportedError."""
        raise UnsupportedError(
            f"{self.title} was imported, so that no checkpoint can name it: train it without "
            f"folder=, and keep its variables by zoo.pretrained.checkpoint.save"
        )

    @nn.nowrap
    def count_channels(self, variables: Mapping[str, Any]) -> int:
        """How many channels the images have, as the file says."""
        assert self.imported is not None
        channels = (self.imported.inputs[0].shape or (None, 3))[1]
        return channels if isinstance(channels, int) else 3

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [N, H, W, C] → logits [N, num_classes]."""
        assert self.imported is not None
        self.check_images(x, train)
        outer: dict[str, Any] = {}
        statistics: dict[str, nn.Variable[Any]] = {}
        for name, (collection, flat) in self.imported.paths.items():
            shape = self.imported.shapes[name]
            make = record((collection, flat), ZEROS)
            if collection == PARAMS:
                array = self.param(flat, make, shape, jnp.float32)
                outer[name] = self.imported.as_value(name, array)
            else:
                found = self.variable(collection, flat, make, None, shape, jnp.float32)
                outer[name], statistics[name] = found.value, found

        def around(
            node: Node, inputs: Sequence[Any], compute: Callable[[], Sequence[Any]]
        ) -> Sequence[Any]:
            if train and node.op == "BatchNormalization":
                return (self._call_module(node, self._normalize(node, inputs, statistics)),)
            first, *rest = compute()
            if isinstance(first, jax.Array):  # else it is known, and no part of the program
                first = self._call_module(node, first)
            return first, *rest

        features = run_graph(self.imported.graph, [x.transpose(0, 3, 1, 2)], outer, around)[0]
        head = Dense(self.num_classes, options=self.layer_options, name=HEAD)
        return promote_to_float32(head(features))

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


def as_classifier(
    model: OnnxModel,
    *,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    licence: str = "",
) -> Trained:
    """An imported classifier as what `zoo.trained` returns; see `OnnxModel.as_trained`."""
    last = _find_last_layer(model)
    flat = flatten_names(model.paths)
    arrays = dict(pick_parameters(model.variables, model.paths))
    kernel, bias = (np.asarray(arrays.pop(name)) for name in last.inputs[1:])
    if last.attributes.get("transB", 0):
        kernel = kernel.T
    paths = {name: flat[name] for name in arrays}
    variables: dict[str, Any] = {PARAMS: {HEAD: {"kernel": jnp.asarray(kernel), "bias": bias}}}
    for name, array in arrays.items():
        collection, key = paths[name]
        variables.setdefault(collection, {})[key] = jnp.asarray(array)
    features = dataclasses.replace(
        model.graph,
        nodes=tuple(node for node in model.graph.nodes if node is not last),
        outputs=(TensorInfo(last.inputs[0]),),
    )
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    backbone = dataclasses.replace(model, graph=features, paths=paths, shapes=shapes, variables={})
    side = _find_side(model)
    if preprocessing is None:
        size = side or SIZE
        preprocessing = Preprocessing(size, round(size * 256 / 224), "bilinear", MEAN, STD)
    count = kernel.shape[1]
    names = make_labels(labels, count)
    info = Info(model.graph.name, "imported", "", licence, preprocessing, names, None)
    definition = OnnxClassifier(num_classes=count, imported=backbone, side=side or 1)
    return Trained(definition, variables, info)


def _find_last_layer(model: OnnxModel) -> Node:
    """The layer that gives the logits; UnsupportedError unless it is a Gemm of its own weights."""
    graph = model.graph
    readers = collections.Counter(name for node in graph.all_nodes() for name in node.inputs)
    last = next((node for node in graph.nodes if graph.outputs[0].name in node.outputs), None)
    plain = (
        last is not None
        and len(graph.outputs) == len(graph.inputs) == 1
        and last.op == "Gemm"
        and len(last.inputs) == 3
        and all(name in model.paths and readers[name] == 1 for name in last.inputs[1:])
        and len(model.shapes[last.inputs[2]]) == 1
        and all(last.attributes.get(name, 1) == 1 for name in ("alpha", "beta"))
        and not last.attributes.get("transA", 0)
    )
    if not plain or last is None:
        found = "none" if last is None else last.title
        raise UnsupportedError(
            f"only a model of one input, whose one output is computed by a Gemm with weights and "
            f"a bias of its own, can be a classifier of the zoo; this one has "
            f"{len(graph.inputs)} inputs, and the last node is {found}"
        )
    return last


def _find_side(model: OnnxModel) -> int | None:
    """The height and width that the model takes; None if they are free."""
    shape = model.inputs[0].shape
    sides = (None,) * 4 if shape is None else shape
    if len(sides) != 4:
        raise UnsupportedError(f"a classifier takes images, and not {model.inputs[0]}")
    height, width = sides[2:]
    if not isinstance(height, int) and not isinstance(width, int):
        return None
    if height != width or not isinstance(height, int):
        raise UnsupportedError(f"images must be squares, and not {model.inputs[0]}")
    return height


def flatten_names(paths: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, str]]:
    """For each parameter its collection, and its path there with dots between its parts."""
    return {name: (path[0], ".".join(path[1:])) for name, path in paths.items()}
