"""The parts of an imported classifier: its backbone, its last layer, and what they are called."""

import dataclasses
import functools
import math
import re
from collections.abc import Container, Mapping

import jax.numpy as jnp

from zoo.models.initializers import ONES, ZEROS, Constant, Initializer, Normal, he_normal
from zoo.onnx.errors import UnsupportedError
from zoo.onnx.graph import Node
from zoo.onnx.head import Head, find_head
from zoo.onnx.model import OnnxModel, from_structure
from zoo.onnx.parameters import PARAMS

HEAD = "head"
# Sides of images that are taken for their channels.
COLOURS = (1, 3)


@dataclasses.dataclass(frozen=True, eq=False)
class ClassifierParts:
    """What an imported classifier consists of.

    Args:
      model: the whole, without variables.
      head: the last layer.
      paths: of parameters but the head's, in the classifier's variables: a collection and a name,
        which is the path in the model's variables with dots between its parts.
      modules: the names of the nodes' modules.
      counts: of nodes, see `OnnxNode`.
      initializers: of these parameters.
      side: height and width of the images; None if they are free.
      channels: of the images.
      channels_last: whether images are [N, H, W, C] in the model too.
    """

    model: OnnxModel
    head: Head
    paths: Mapping[str, tuple[str, str]]
    modules: Mapping[Node, str]
    counts: Mapping[Node, tuple[str, int, int]]
    initializers: Mapping[str, Initializer]
    side: int | None
    channels: int
    channels_last: bool


@functools.lru_cache(maxsize=16)
def take_apart(structure: str) -> ClassifierParts:
    """The parts of a classifier, by the text of its graph; UnsupportedError for other models."""
    if not structure:
        raise UnsupportedError(
            "an OnnxClassifier without a graph computes nothing: "
            "zoo.from_onnx(path).as_trained() makes one"
        )
    model = from_structure(structure)
    head = find_head(model)
    (images,) = model.inputs
    sides = images.shape if images.shape is not None else (None,) * 4
    if len(sides) != 4 or (
        images.dtype is not None and not jnp.issubdtype(images.dtype, jnp.floating)
    ):
        raise UnsupportedError(f"a classifier takes images of floating point, and not {images}")
    channels_last = sides[3] in COLOURS and sides[1] not in COLOURS
    channels, *size = (sides[3], *sides[1:3]) if channels_last else sides[1:]
    given = {side for side in size if isinstance(side, int)}
    if len(given) > 1 or (given and not all(isinstance(side, int) for side in size)):
        raise UnsupportedError(f"images must be squares, and not {images}")
    paths: dict[str, tuple[str, str]] = {}
    taken = {HEAD}
    read = [name for node in model.graph.all_nodes() for name in node.inputs]
    for name in dict.fromkeys((*read, *model.paths)):  # in the order of the nodes
        if name in model.paths and name not in (head.kernel, head.bias):
            collection, *path = model.paths[name]
            flat = make_unique(".".join(path), taken)
            paths[name] = collection, flat
            taken.add(flat)
    modules = {}
    for node in head.graph.nodes:
        modules[node] = make_unique(re.sub(r"[/\s]+", ".", node.label.strip("/")) or node.op, taken)
        taken.add(modules[node])
    count = channels if isinstance(channels, int) else 3
    side = next(iter(given), None)
    return ClassifierParts(
        model,
        head,
        paths,
        modules,
        _count_parameters(model, head),
        _choose_initializers(model),
        side,
        count,
        channels_last,
    )


def make_unique(name: str, taken: Container[str]) -> str:
    """The name, with a number behind it if it is taken."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found


def _count_parameters(model: OnnxModel, head: Head) -> dict[Node, tuple[str, int, int]]:
    """The operator of each node, its parameters but for shared ones, and products an output."""
    counts: dict[Node, tuple[str, int, int]] = {}
    seen: set[str] = set()
    for node in head.graph.nodes:
        own = {name for name in node.inputs if model.paths.get(name, "")[:1] == (PARAMS,)} - seen
        seen |= own
        size = sum(math.prod(model.parameters[name].shape) for name in own)
        products = 0
        if node.op in ("Conv", "Gemm", "MatMul") and node.inputs[1] in model.parameters:
            sides = model.parameters[node.inputs[1]].shape
            is_last = node.inputs[1] in model.kernels or node.op != "Conv"
            products = math.prod(sides[:-1] if is_last else sides[1:])
            if node.attributes.get("transB", 0):
                products = math.prod(sides[1:])
        counts[node] = (node.op, size, products)
    return counts


def _choose_initializers(model: OnnxModel) -> dict[str, Initializer]:
    """Initial values of parameters, by the operators that read them."""
    found: dict[str, Initializer] = {}
    for node in model.graph.all_nodes():
        for position, name in enumerate(node.inputs):
            if name in model.parameters:
                shape = model.parameters[name].shape
                found.setdefault(name, _choose_initializer(node, position, shape))
    return {name: found.get(name, ZEROS) for name in model.parameters}


def _choose_initializer(node: Node, position: int, shape: tuple[int, ...]) -> Initializer:
    is_scale = "Normalization" in node.op and position == 1
    if is_scale or (node.op, position) == ("BatchNormalization", 4):
        return ONES
    if node.op == "PRelu":
        return Constant(0.25)
    if node.op in ("Gemm", "MatMul") and len(shape) > 1:
        inputs = shape[-1] if node.attributes.get("transB", 0) else shape[-2]
        return Normal(1 / math.sqrt(inputs))
    if node.op == "Conv" and len(shape) == 4:
        return he_normal(shape, node.attributes.get("group", 1))
    if math.prod(shape) > max(shape, default=1):  # more than a vector
        return Normal(0.02)
    return ONES if node.op == "Mul" else ZEROS
