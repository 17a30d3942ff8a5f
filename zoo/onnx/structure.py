"""Models without their weights, as texts that a checkpoint's metadata hold."""

import base64
import zlib
from collections.abc import Container, Iterator, Mapping
from typing import Any

import numpy as np

from zoo.onnx.errors import OnnxError, UnsupportedError
from zoo.onnx.load import import_onnx, parse

# The longest text, which leaves room for what else metadata hold; that of a ResNet-152 has 30 kB.
MAX_LENGTH = 3 << 20
# The most bytes that a text may stand for.
MAX_BYTES = 1 << 28
_WHERE = "the graph of an imported model"


def empty_parameters(
    proto: Any, parameters: Container[str], constants: Mapping[str, np.ndarray]
) -> None:
    """Takes the values of parameters out of a model, and what only describes its nodes.

    Args:
      proto: an `onnx.ModelProto`; it is changed.
      parameters: the names of the tensors that are emptied; those of bodies of functions stay.
      constants: the values of the others by name, for those that lie in files.
    """
    onnx = import_onnx()
    for tensor in _tensors(proto):
        if tensor.name in parameters:
            name, kind, shape = tensor.name, tensor.data_type, list(tensor.dims)
            tensor.Clear()
            tensor.name, tensor.data_type = name, kind
            tensor.dims.extend(shape)
            tensor.data_location = onnx.TensorProto.EXTERNAL
        elif tensor.data_location == onnx.TensorProto.EXTERNAL:
            values = constants[tensor.name]
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for node in proto.graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")  # in which exporters write down whole stacks of calls
    for name in ("value_info", "doc_string", "metadata_props"):
        proto.graph.ClearField(name)
    for name in ("training_info", "doc_string"):
        proto.ClearField(name)


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
    tensors = {tensor.name: tensor for tensor in _tensors(proto)}
    for name, array in arrays.items():
        if name not in tensors:
            raise UnsupportedError(f"{name!r} lies inside a function, and cannot be replaced")
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensors[name].data_type)
        values = np.ascontiguousarray(array, dtype)
        tensors[name].CopyFrom(onnx.numpy_helper.from_array(values, name))


def _tensors(proto: Any) -> Iterator[Any]:
    """The tensors that may be parameters; those of nodes `Constant` get the name of the output."""
    yield from proto.graph.initializer
    for node in proto.graph.node:
        if node.op_type == "Constant" and not node.domain:
            for attribute in node.attribute:
                if attribute.name == "value":
                    attribute.t.name = node.output[0]
                    yield attribute.t
