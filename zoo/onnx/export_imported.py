"""Exports imported models again, with the weights that they have now."""

from typing import Any

import numpy as np

from zoo.inference.trained import Trained
from zoo.onnx.classifier import OnnxClassifier
from zoo.onnx.errors import UnsupportedError
from zoo.onnx.head import Head, find_constant
from zoo.onnx.load import import_onnx
from zoo.onnx.parameters import PARAMS
from zoo.onnx.parts import HEAD, make_unique


def make_classifier_proto(trained: Trained) -> Any:
    """The `onnx.ModelProto` that a classifier was imported from, with its weights of today.

    Raises:
      UnsupportedError: weights lie inside a function of the model.
    """
    definition = trained.model
    assert isinstance(definition, OnnxClassifier)
    parts, head, model = definition.parts, definition.parts.head, definition.parts.model
    variables = trained.variables
    kernel, bias = (np.asarray(variables[PARAMS][HEAD][name]) for name in ("kernel", "bias"))
    arrays = {head.kernel: head.as_layer(kernel)}
    for name, (collection, flat) in parts.paths.items():
        arrays[name] = np.asarray(variables[collection][flat])
    stored = find_constant(model, head.bias)
    if stored is not None:
        arrays[head.bias] = bias if len(stored.shape) == 1 else bias[None]
    proto = model.fill(arrays)
    if stored is None and bias.any():
        weights = find_constant(model, head.kernel)
        assert weights is not None
        _add_bias(proto, head, bias.astype(weights.dtype))
    if definition.num_classes != head.num_classes:
        _free_classes(proto, head, definition.num_classes)
    return proto


def _add_bias(proto: Any, head: Head, bias: np.ndarray) -> None:
    """Gives the last layer a bias."""
    onnx = import_onnx()
    taken = {name for node in proto.graph.node for name in (*node.input, *node.output)}
    name = make_unique(f"{head.kernel}.bias", taken)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(bias, name))
    position, node = _find(proto, head.node.outputs[0])
    if node.op_type != "MatMul":
        node.input[2:] = [name]
        return
    output = node.output[0]
    node.output[0] = make_unique(f"{output}.product", taken)
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
