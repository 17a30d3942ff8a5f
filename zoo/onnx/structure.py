"""Models without their weights, as texts that a checkpoint's metadata hold."""

import base64
import zlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from zoo.onnx.errors import OnnxError, UnsupportedError
from zoo.onnx.load import import_onnx, parse

# The longest text, which leaves room for what else metadata hold; that of a DenseNet-121 has 12 kB.
MAX_LENGTH = 3 << 20
# The most bytes that a text may stand for: those of a DenseNet-121 are 190 kB.
MAX_BYTES = 1 << 24
_WHERE = "the graph of an imported model"


def empty_parameters(
    proto: Any, parameters: Container[str], read: Callable[[Any], np.ndarray]
) -> None:
    """Takes the values of parameters out of a model, and what only describes its nodes.

    Every initializer loses its entry among the inputs, which old files have, and tensors in other
    files come into the model.

    Args:
      proto: an `onnx.ModelProto`; it is changed.
      parameters: the names of the tensors that are emptied; those of bodies of functions stay.
      read: gives the values of a tensor.
    """
    onnx = import_onnx()
    graph = proto.graph
    _make_dense(proto, parameters)
    for tensor in _list_tensors(proto):
        if tensor.name in parameters:
            name, kind, shape = tensor.name, tensor.data_type, list(tensor.dims)
            tensor.Clear()
            tensor.name, tensor.data_type = name, kind
            tensor.dims.extend(shape)
            tensor.data_location = onnx.TensorProto.EXTERNAL
    for tensor in _walk_tensors([graph, *proto.functions]):
        if tensor.data_location == onnx.TensorProto.EXTERNAL and tensor.external_data:
            tensor.CopyFrom(onnx.numpy_helper.from_array(read(tensor), tensor.name))
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [info for info in graph.input if info.name not in constants]
    if len(inputs) < len(graph.input):
        del graph.input[:]
        graph.input.extend(inputs)
        proto.ir_version = max(proto.ir_version, 4)  # from which on inputs need no such entries
    for node in graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")  # in which exporters write down whole stacks of calls
    for field in ("value_info", "metadata_props"):
        graph.ClearField(field)
    proto.ClearField("training_info")


def _make_dense(proto: Any, parameters: Container[str]) -> None:
    """Gives parameters that are sparse, or lists of floats in a node, a tensor."""
    onnx = import_onnx()
    graph = proto.graph
    sparse = list(graph.sparse_initializer)
    del graph.sparse_initializer[:]
    for each in sparse:
        name = each.values.name
        if name in parameters:
            dense = onnx.TensorProto(
                name=name, data_type=each.values.data_type, dims=list(each.dims)
            )
            graph.initializer.append(dense)
        else:
            graph.sparse_initializer.append(each)
    for node in graph.node:
        if _is_constant(node) and node.output[0] in parameters:
            (attribute,) = node.attribute
            if attribute.name == "value_floats":
                floats = np.array(attribute.floats, np.float32)
                node.attribute[0].CopyFrom(
                    onnx.helper.make_attribute("value", onnx.numpy_helper.from_array(floats))
                )


def encode(proto: Any) -> str:
    """A text of what `empty_parameters` left, from which `decode` makes it again.

    Raises:
      UnsupportedError: it is too large.
    """
    content = proto.SerializeToString(deterministic=True)
    text = ""
    if len(content) <= MAX_BYTES:
        text = base64.b64encode(zlib.compress(content, 9)).decode()
    if not 0 < len(text) <= MAX_LENGTH:
        raise UnsupportedError(
            f"without its parameters the model still has {len(content):,} bytes, so that no "
            f"checkpoint can hold it"
        )
    return text


def decode(text: str) -> Any:
    """The `onnx.ModelProto` that a text stands for, whose parameters have a shape and no values.

    Raises:
      MissingExtraError: the package onnx is not installed.
      OnnxError: the text stands for no model.
    """
    try:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(base64.b64decode(text, validate=True), MAX_BYTES)
    except (ValueError, zlib.error) as error:
        raise OnnxError(f"{_WHERE} cannot be read: {error}") from error
    if not unpacker.eof:
        raise OnnxError(f"{_WHERE} ends too early, or is too large")
    return parse(content, _WHERE)


def fill_parameters(proto: Any, arrays: Mapping[str, Any]) -> None:
    """Gives the parameters of what `decode` made values, of the types that they had.

    Args:
      proto: an `onnx.ModelProto`; it is changed.
      arrays: the values by the names of the tensors.

    Raises:
      UnsupportedError: there is no tensor of a name, as those of functions' bodies have none.
    """
    onnx = import_onnx()
    tensors = {tensor.name: tensor for tensor in _list_tensors(proto)}
    for name, array in arrays.items():
        if name not in tensors:
            raise UnsupportedError(f"{name!r} lies inside a function, and cannot be replaced")
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensors[name].data_type)
        values = np.ascontiguousarray(array, dtype)
        tensors[name].CopyFrom(onnx.numpy_helper.from_array(values, name))


def _list_tensors(proto: Any) -> Iterator[Any]:
    """The tensors that may be parameters; those of nodes `Constant` get the name of the output."""
    yield from proto.graph.initializer
    for node in proto.graph.node:
        if _is_constant(node):
            for attribute in node.attribute:
                if attribute.name == "value":
                    attribute.t.name = node.output[0]
                    yield attribute.t


def _is_constant(node: Any) -> bool:
    return node.op_type == "Constant" and node.domain in ("", "ai.onnx")


def _walk_tensors(graphs: Iterable[Any]) -> Iterator[Any]:
    """The tensors of graphs and functions, and of the graphs inside their nodes."""
    for graph in graphs:
        yield from getattr(graph, "initializer", ())
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                yield from _walk_tensors(attribute.graphs)
                if attribute.HasField("g"):
                    yield from _walk_tensors([attribute.g])
