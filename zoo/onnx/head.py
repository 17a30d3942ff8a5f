"""The last layer of an imported classifier."""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from zoo.onnx.errors import UnsupportedError
from zoo.onnx.graph import STANDARD, Graph, Node
from zoo.onnx.model import OnnxModel

# Nodes that may follow the last layer. Replaced by the identity:
PASSED = ("Identity", "Dropout", "Softmax", "LogSoftmax")
# Replaced by Flatten, as their shapes may name the number of classes:
FLATTENED = ("Flatten", "Reshape", "Squeeze")
# Kept:
COMPUTED = ("Relu", "Clip", "GlobalAveragePool", "AveragePool", "ReduceMean")


@dataclasses.dataclass(frozen=True, eq=False)
class Head:
    """The last layer of a classifier with weights.

    Args:
      node: a Gemm, a MatMul, or a Conv of one pixel.
      kernel: the name of its weights.
      bias: the name of its bias, which may be added by a node of its own; "" if there is none.
      num_classes: of the model.
      is_transposed: whether the model has the weights as [out, in].
      graph: the model's, of logits: without a softmax at the end, and for any number of classes.
      flattened: the names of what is flattened behind the layer.
    """

    node: Node
    kernel: str
    bias: str
    num_classes: int
    is_transposed: bool
    graph: Graph
    flattened: tuple[str, ...]

    def as_layer(self, kernel: Any) -> Any:
        """Weights as a layer of the zoo has them, [in, out], of those of the model; or back."""
        return kernel.T if self.is_transposed else kernel


def find_head(model: OnnxModel) -> Head:
    """The last layer of a classifier: a Gemm, a MatMul, or a Conv of one pixel.

    Behind it there may be a bias, activations, means over the positions, what flattens, and at the
    very end a softmax.

    Raises:
      UnsupportedError: it is none of these; the message says why.
    """
    graph = model.graph
    if not len(graph.outputs) == len(graph.inputs) == 1:
        raise UnsupportedError(
            f"a classifier has one input and one output, and this model has {len(graph.inputs)} "
            f"and {len(graph.outputs)}"
        )
    makers = {name: node for node in graph.nodes for name in node.outputs if name}
    # What only asks for a shape needs no values.
    readers = collections.Counter(
        name for node in graph.all_nodes() if node.op != "Shape" for name in node.inputs
    )
    readers[graph.outputs[0].name] += 1
    replaced: dict[int, Node] = {}
    bias, name, computed = "", graph.outputs[0].name, False
    while True:
        node = makers.get(name)
        if node is None:
            raise _unsupported("no layer is found in front of the output")
        if readers[name] > 1:
            raise _unsupported(f"the output of {node.title} is read more than once")
        source = node.inputs[0] if node.inputs else ""
        if node.op in PASSED:
            if computed and node.op.endswith("Softmax"):
                raise _unsupported(f"{node.title} is not at the end")
            replaced[id(node)] = _identity(node, source)
        elif node.op in FLATTENED:
            replaced[id(node)] = dataclasses.replace(
                node, op="Flatten", version=13, inputs=(source,), attributes={"axis": 1}
            )
        elif node.op in COMPUTED and not bias:
            computed = True
        elif node.op == "Add" and not bias:  # of a MatMul before it
            bias, source = _find_added_bias(node, model, makers)
            replaced[id(node)] = _identity(node, source)
        else:
            break
        name = source
    kernel, *rest = (*node.inputs[1:], "")
    bias = bias or next(filter(None, rest), "")
    _check_layer(node, model)
    for each in filter(None, (kernel, bias)):
        if find_constant(model, each) is None or readers[each] != 1:
            raise _unsupported(f"{each!r} of {node.title} is no parameter of its own")
    is_transposed = node.op == "Gemm" and bool(node.attributes.get("transB", 0))
    num_classes = _shape(model, kernel)[0 if is_transposed else -1]
    if bias and _shape(model, bias) not in ((num_classes,), (1, num_classes)):
        raise _unsupported(f"the bias of {node.title} has the shape {_shape(model, bias)}")
    nodes = tuple(replaced.get(id(each), each) for each in graph.nodes)
    flattened = tuple(each.outputs[0] for each in replaced.values() if each.op == "Flatten")
    logits = dataclasses.replace(graph, nodes=nodes)
    return Head(node, kernel, bias, num_classes, is_transposed, logits, flattened)


def find_constant(model: OnnxModel, name: str) -> jax.ShapeDtypeStruct | None:
    """The shape and type of a parameter, or of a single number, which is none; None for others."""
    if name in model.parameters:
        return model.parameters[name]
    array = model.graph.constants.get(name)
    if array is None or array.size != 1 or not jnp.issubdtype(array.dtype, jnp.floating):
        return None
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _shape(model: OnnxModel, name: str) -> tuple[int, ...]:
    found = find_constant(model, name)
    return () if found is None else found.shape


def _find_added_bias(node: Node, model: OnnxModel, makers: Mapping[str, Node]) -> tuple[str, str]:
    """The bias that an Add adds to a product, and the product."""
    names = [each for each in node.inputs if find_constant(model, each) is not None]
    products = [each for each in node.inputs if each in makers and makers[each].op == "MatMul"]
    if len(names) != 1 or len(products) != 1:
        raise _unsupported(f"{node.title} adds something other than a bias to a MatMul")
    return names[0], products[0]


def _check_layer(node: Node, model: OnnxModel) -> None:
    """Raises UnsupportedError unless a node is a layer that the zoo has."""
    attributes = node.attributes
    if node.op == "Gemm":
        scales = [attributes.get(name, 1) for name in ("alpha", "beta")]
        if attributes.get("transA", 0) or scales != [1, 1]:
            raise _unsupported(f"{node.title} transposes its input, or has alpha or beta")
    elif node.op == "MatMul":
        if len(_shape(model, node.inputs[1])) != 2:
            raise _unsupported(f"{node.title} is no product with a matrix that is a parameter")
    elif node.op == "Conv":
        sides = _shape(model, node.inputs[1])[:2]
        strides = attributes.get("strides", (1, 1))
        plain = attributes.get("group", 1) == 1 and not any(attributes.get("pads", ()))
        if node.inputs[1] not in model.kernels or not plain or {*sides, *strides} != {1}:
            raise _unsupported(f"{node.title} is no convolution of one pixel with weights")
    else:
        raise _unsupported(f"{node.title} is none of these")


def _identity(node: Node, source: str) -> Node:
    """A node of one output that gives what it gets."""
    return Node("Identity", STANDARD, 1, node.name, (source,), node.outputs[:1], {})


def _unsupported(reason: str) -> UnsupportedError:
    return UnsupportedError(
        f"the last layer of a classifier must be a Gemm, a MatMul or a Conv of one pixel, with "
        f"weights of its own; here {reason}"
    )
