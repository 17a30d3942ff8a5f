"""Exports imported models again, with the weights that they have now."""

from typing import Any

import numpy as np

from zoo.inference.trained import Trained
from zoo.onnx.classifier import HEAD, OnnxClassifier, take_apart
from zoo.onnx.errors import UnsupportedError
from zoo.onnx.head import Head
from zoo.onnx.load import import_onnx
from zoo.onnx.parameters import PARAMS


def make_classifier_proto(trained: Trained) -> Any:
    """The `onnx.ModelProto` that a classifier was imported from, with its weights of today.

    Raises:
      UnsupportedError: weights lie inside a function of the model.
    """
    definition = trained.model
    assert isinstance(definition, OnnxClassifier)
    backbone = take_apart(definition.graph)
    head, variables = backbone.head, trained.variables
    kernel, bias = (np.asarray(variables[PARAMS][HEAD][name]) for name in ("kernel", "bias"))
    arrays = {head.kernel: kernel.T if head.is_transposed else kernel}
    for name, (collection, flat) in backbone.paths.items():
        arrays[name] = np.asarray(variables[collection][flat])
    if head.bias:
        arrays[head.bias] = bias
    proto = backbone.model.fill(arrays)
    if not head.bias and bias.any():
        _add_bias(proto, head, bias.astype(kernel.dtype))
    if definition.num_classes != head.num_classes:
        _free_classes(proto, head, definition.num_classes)
    return proto


def _add_bias(proto: Any, head: Head, bias: np.ndarray) -> None:
    """Gives the last layer a bias."""
    onnx = import_onnx()
    name = f"{head.kernel}.bias"
    proto.graph.initializer.append(onnx.numpy_helper.from_array(bias, name))
    position, node = _find(proto, head.node.outputs[0])
    if node.op_type != "MatMul":
        node.input[2:] = [name]
        return
    output = node.output[0]
    node.output[0] = f"{output}.product"
    proto.graph.node.insert(
        position + 1, onnx.helper.make_node("Add", [node.output[0], name], [output], name=name)
    )


def _free_classes(proto: Any, head: Head, count: int) -> None:
    """Changes what says how many classes there are."""
    unread = set()
    for name in head.flattened:
        node = _find(proto, name)[1]
        unread |= set(node.input[1:])
        node.op_type = "Flatten"
        del node.input[1:], node.attribute[:]
    unread -= {name for node in head.graph.all_nodes() for name in node.inputs}
    kept = [each for each in proto.graph.initializer if each.name not in unread]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    shape = proto.graph.output[0].type.tensor_type.shape
    if shape.dim:
        shape.dim[-1].dim_value = count


def _find(proto: Any, output: str) -> tuple[int, Any]:
    """The position of the node that computes a value, and the node."""
    for position, node in enumerate(proto.graph.node):
        if output in node.output:
            return position, node
    raise UnsupportedError(f"{output!r} is computed inside a function, and cannot be changed")
