"""The last layer of an imported classifier."""

import collections
import dataclasses

from zoo.onnx.errors import UnsupportedError
from zoo.onnx.graph import STANDARD, Graph, Node
from zoo.onnx.model import OnnxModel

# What may follow the last layer: these become the identity …
PASSED = ("Identity", "Dropout", "Softmax", "LogSoftmax")
# … these a Flatten, which leaves the number of classes free …
FLATTENED = ("Flatten", "Reshape", "Squeeze")
# … and these are computed.
COMPUTED = ("Relu", "Clip", "GlobalAveragePool", "AveragePool", "ReduceMean")


@dataclasses.dataclass(frozen=True, eq=False)
class Head:
    """The last layer of a classifier with weights.

    Args:
      node: a Gemm, a MatMul, or a Conv of one pixel.
      kernel: the name of its weights.
      bias: the name of its bias, which may be added by a node of its own; "" if there is none.
      num_classes: of the model.
      graph: the model's, of logits: without a softmax at the end, and for any number of classes.
      flattened: the names of what is flattened behind the layer.
    """

    node: Node
    kernel: str
    bias: str
    num_classes: int
    graph: Graph
    flattened: tuple[str, ...]

    @property
    def is_conv(self) -> bool:
        """Whether it is a convolution."""
        return self.node.op == "Conv"

    @property
    def is_transposed(self) -> bool:
        """Whether the model has the weights as [out, in]."""
        return self.node.op == "Gemm" and bool(self.node.attributes.get("transB", 0))


def find_head(model: OnnxModel) -> Head:
    """The last layer of a classifier.

    Raises:
      UnsupportedError: the model has several inputs or outputs; or the last layer with weights is
        none that can be replaced, or what follows it is more than a mean and a softmax.
    """
    graph = model.graph
    if not len(graph.outputs) == len(graph.inputs) == 1:
        raise UnsupportedError(
            f"a classifier has one input and one output, and this model has {len(graph.inputs)} "
            f"and {len(graph.outputs)}"
        )
    makers = {name: node for node in graph.nodes for name in node.outputs}
    readers = collections.Counter(name for node in graph.all_nodes() for name in node.inputs)
    replaced: dict[int, Node] = {}
    bias, name = "", graph.outputs[0].name
    while True:
        node = makers.get(name)
        is_last = name == graph.outputs[0].name
        if node is None or readers[name] > (0 if is_last else 1):
            raise _unsupported(node)
        source = node.inputs[0] if node.inputs else ""
        if node.op in PASSED:
            replaced[id(node)] = _identity(node, source)
        elif node.op in FLATTENED:
            replaced[id(node)] = dataclasses.replace(
                node, op="Flatten", version=13, inputs=(source,), attributes={"axis": 1}
            )
        elif node.op == "Add" and not bias:  # of a MatMul before it
            names = [each for each in node.inputs if each in model.paths]
            if len(names) != 1 or readers[names[0]] != 1 or len(model.shapes[names[0]]) != 1:
                raise _unsupported(node)
            (bias,) = names
            source = next(each for each in node.inputs if each != bias)
            if source not in makers or makers[source].op != "MatMul":
                raise _unsupported(node)
            replaced[id(node)] = _identity(node, source)
        elif node.op in COMPUTED and not bias:
            pass
        else:
            break
        name = source
    kernel, *rest = (*node.inputs[1:], "")
    bias = bias or next(filter(None, rest), "")
    own = [each for each in (kernel, bias) if each]
    if not _can_be_replaced(node, model) or any(
        each not in model.paths or readers[each] != 1 for each in own
    ):
        raise _unsupported(node)
    sides = model.shapes[kernel]
    num_classes = sides[0] if node.op == "Gemm" and node.attributes.get("transB", 0) else sides[-1]
    if bias and model.shapes[bias] != (num_classes,):
        raise _unsupported(node)
    nodes = tuple(replaced.get(id(each), each) for each in graph.nodes)
    flattened = tuple(each.outputs[0] for each in replaced.values() if each.op == "Flatten")
    logits = dataclasses.replace(graph, nodes=nodes)
    return Head(node, kernel, bias, num_classes, logits, flattened)


def _can_be_replaced(node: Node, model: OnnxModel) -> bool:
    """Whether a node is a layer that the zoo has, with weights that are a parameter."""
    if len(node.inputs) < 2 or node.inputs[1] not in model.paths:
        return False
    rank, attributes = len(model.shapes[node.inputs[1]]), node.attributes
    match node.op:
        case "Gemm":
            scales = (attributes.get(name, 1) for name in ("alpha", "beta"))
            return not attributes.get("transA", 0) and all(scale == 1 for scale in scales)
        case "MatMul":
            return rank == 2
        case "Conv":
            plain = attributes.get("group", 1) == 1 and not any(attributes.get("pads", ()))
            strides = set(attributes.get("strides", (1, 1)))
            sides = model.shapes[node.inputs[1]][:2]
            return node.inputs[1] in model.kernels and plain and {*sides, *strides} == {1}
    return False


def _identity(node: Node, source: str) -> Node:
    """A node of one output that gives what it gets."""
    return Node("Identity", STANDARD, 1, node.name, (source,), node.outputs[:1], {})


def _unsupported(node: Node | None) -> UnsupportedError:
    found = "none" if node is None else node.title
    return UnsupportedError(
        f"the last layer of a classifier must be a Gemm, a MatMul or a Conv of one pixel, with "
        f"weights of its own, before at most a mean and a softmax; this one ends in {found}"
    )
