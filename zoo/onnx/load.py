"""Reads ONNX models: files, bytes and protos → `Graph`."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.onnx.errors import OnnxError
from zoo.onnx.graph import STANDARD, Graph, Node, TensorInfo
from zoo.runtime.extras import require

# The most elements that a tensor may have, and the deepest nesting of graphs and functions: what
# is beyond was never meant.
MAX_ELEMENTS = 1 << 34
# The same of one whose elements are not all in the file.
MAX_DENSE = 1 << 28
MAX_DEPTH = 64
# The most nodes of a graph with its functions' bodies in place of their calls.
MAX_NODES = 1_000_000


def read_proto(source: Any) -> tuple[Any, Path | None]:
    """The `onnx.ModelProto` of a model, and the folder in which files beside it may lie.

    Args:
      source: the path of a file, its bytes, or an `onnx.ModelProto`, of which the result is a copy.

    Raises:
      MissingExtraError: the package onnx is not installed.
      FileNotFoundError: there is no such file.
      OnnxError: it is no model.
    """
    onnx = import_onnx()
    if isinstance(source, onnx.ModelProto):
        copy = onnx.ModelProto()
        copy.CopyFrom(source)
        return copy, None
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return parse(path.read_bytes(), str(path)), path.parent
    if isinstance(source, bytes | bytearray | memoryview):
        return parse(bytes(source), "the bytes"), None
    raise TypeError(
        f"expected the path of an ONNX file, its bytes or a ModelProto, got {type(source)}"
    )


def import_onnx() -> Any:
    """The package onnx; MissingExtraError with the command that installs it."""
    return require("onnx", "onnx")


def parse(content: bytes, where: str) -> Any:
    """The `onnx.ModelProto` of bytes; OnnxError, which names where they are from, if it is none."""
    onnx = import_onnx()
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (require("google.protobuf.message", "onnx").DecodeError, ValueError) as error:
        raise OnnxError(f"{where}: no ONNX model, or a part of one: {error}") from error
    if not model.opset_import or not model.HasField("graph"):
        raise OnnxError(f"{where}: no ONNX model: it has no graph or names no operator set")
    return model


class Loader:
    """Turns one proto into a graph.

    Args:
      model: an `onnx.ModelProto`.
      folder: where files of external data lie; None where there can be none.

    Attributes:
      emptied: names of tensors without values, see `structure.empty_parameters`; they are zeros.
    """

    def __init__(self, model: Any, folder: Path | None = None) -> None:
        self.model, self.folder = model, folder
        self.emptied: set[str] = set()
        self.onnx = import_onnx()
        self.versions = {_domain(each.domain): each.version for each in model.opset_import}
        self.functions = {
            (_domain(each.domain), each.name, getattr(each, "overload", "")): each
            for each in model.functions
        }
        self.count = 0  # of nodes, and of calls of functions

    def load(self) -> Graph:
        """The graph; OnnxError if the model contradicts itself."""
        try:
            return self._graph(self.model.graph, set(), 0)
        except OnnxError:
            raise
        except (TypeError, ValueError, KeyError, OverflowError, RecursionError) as error:
            raise OnnxError(f"the model cannot be read: {error}") from error

    def _graph(self, proto: Any, outer: set[str], depth: int) -> Graph:
        """A graph; `outer` are the names of values that it may read from outside."""
        if depth > MAX_DEPTH:
            raise OnnxError(f"graphs are nested more than {MAX_DEPTH} deep")
        constants = {each.name: self.tensor(each) for each in proto.initializer}
        for each in proto.sparse_initializer:
            constants[each.values.name] = self._sparse(each)
        inputs = [self._info(each) for each in proto.input if each.name not in constants]
        known = outer | set(constants) | {info.name for info in inputs}
        nodes = self._nodes(proto.node, self.versions, {}, constants, known, depth)
        outputs = tuple(self._info(each) for each in proto.output)
        for info in outputs:
            if info.name not in known:
                raise OnnxError(f"the output {info.name!r} is computed by no node")
        return Graph(proto.name, tuple(nodes), tuple(inputs), outputs, constants)

    def _nodes(
        self,
        protos: Iterable[Any],
        versions: Mapping[str, int],
        given: Mapping[str, Any],
        constants: dict[str, np.ndarray],
        known: set[str],
        depth: int,
    ) -> list[Node]:
        """Nodes, with the bodies of functions in place of their calls.

        Args:
          protos: in an order in which they can be computed.
          versions: of operator sets by domain.
          given: the attributes of the call whose function's body it is.
          constants: gets those of nodes `Constant`.
          known: the names of values that there are; gets the outputs.
          depth: of graphs and functions inside each other.
        """
        nodes: list[Node] = []
        for proto in protos:
            self.count += 1
            if self.count > MAX_NODES:
                raise OnnxError(f"the model has more than {MAX_NODES:,} nodes")
            for name in proto.input:
                if name and name not in known:
                    raise OnnxError(
                        f"the node {proto.op_type} {proto.name!r} reads {name!r}, which nothing "
                        f"before it computes: the graph has a cycle, or is not sorted"
                    )
            for name in proto.output:
                if name and name in known:
                    raise OnnxError(f"two nodes compute {name!r}")
            domain = _domain(proto.domain)
            attributes = self._attributes(proto, given, known, depth)
            if domain == STANDARD and proto.op_type == "Constant":
                constants[proto.output[0]] = _constant(attributes)
                known.add(proto.output[0])
                continue
            key = (domain, proto.op_type, getattr(proto, "overload", ""))
            if key in self.functions:
                nodes += self._call(self.functions[key], proto, attributes, constants, known, depth)
                continue
            if domain not in versions:
                raise OnnxError(
                    f"the node {proto.op_type} {proto.name!r} is of the domain {domain!r}, of "
                    f"which the model names no version"
                )
            inputs, outputs = tuple(proto.input), tuple(proto.output)
            version = versions[domain]
            nodes.append(
                Node(proto.op_type, domain, version, proto.name, inputs, outputs, attributes)
            )
            known |= {name for name in outputs if name}
        return nodes

    def _call(
        self,
        function: Any,
        call: Any,
        attributes: Mapping[str, Any],
        constants: dict[str, np.ndarray],
        known: set[str],
        depth: int,
    ) -> list[Node]:
        """The nodes of a function's body, with names of their own."""
        if depth >= MAX_DEPTH:
            raise OnnxError(f"the function {function.name!r} calls itself, or calls are too deep")
        prefix = f"{call.name or call.op_type}#{self.count}/"
        names = dict(zip(function.output, call.output, strict=False))
        names |= dict(zip(function.input, [*call.input, *[""] * len(function.input)], strict=False))
        body = [self._rename(node, names, prefix) for node in function.node]
        defaults = {each.name: each for each in function.attribute_proto}
        given = {name: self._value(each, {}, known, depth) for name, each in defaults.items()}
        versions = {_domain(each.domain): each.version for each in function.opset_import}
        merged = {**self.versions, **versions}
        nodes = self._nodes(body, merged, {**given, **attributes}, constants, known, depth + 1)
        # An output may be an input as it is.
        computed = {name for node in nodes for name in node.outputs} | set(constants)
        for inner, outer in zip(function.output, call.output, strict=False):
            if outer and outer not in computed:
                source = names.get(inner, "")
                nodes.append(
                    Node("Identity", STANDARD, merged[STANDARD], "", (source,), (outer,), {})
                )
                known.add(outer)
        return nodes

    def _rename(self, node: Any, names: dict[str, str], prefix: str) -> Any:
        """A copy of a node with other names of values, in the graphs inside it too."""
        copy = type(node)()
        copy.CopyFrom(node)
        for values in (copy.input, copy.output):
            for number, name in enumerate(values):
                if name:
                    values[number] = names.setdefault(name, prefix + name)
        for attribute in copy.attribute:
            if attribute.HasField("g"):
                self._rename_graph(attribute.g, dict(names), prefix)
        return copy

    def _rename_graph(self, graph: Any, names: dict[str, str], prefix: str) -> None:
        for infos in (graph.input, graph.initializer):
            for info in infos:
                info.name = names[info.name] = prefix + info.name
        renamed = [self._rename(node, names, prefix) for node in graph.node]
        del graph.node[:]
        graph.node.extend(renamed)
        for info in graph.output:
            info.name = names.get(info.name, info.name)

    def _attributes(
        self, proto: Any, given: Mapping[str, Any], known: set[str], depth: int
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for each in proto.attribute:
            if each.ref_attr_name:
                if each.ref_attr_name in given:  # else the operator's default holds
                    found[each.name] = given[each.ref_attr_name]
            else:
                found[each.name] = self._value(each, given, known, depth)
        return found

    def _value(self, proto: Any, given: Mapping[str, Any], known: set[str], depth: int) -> Any:
        """An attribute's value in Python."""
        types = self.onnx.AttributeProto
        match proto.type:
            case types.FLOAT:
                return proto.f
            case types.INT:
                return proto.i
            case types.STRING:
                return proto.s
            case types.TENSOR:
                return self.tensor(proto.t)
            case types.SPARSE_TENSOR:
                return self._sparse(proto.sparse_tensor)
            case types.GRAPH:
                return self._inner_graph(proto.g, given, known, depth)
            case types.FLOATS:
                return list(proto.floats)
            case types.INTS:
                return list(proto.ints)
            case types.STRINGS:
                return list(proto.strings)
            case types.TENSORS:
                return [self.tensor(each) for each in proto.tensors]
        # Types of sequences and optional values are no numbers, and nothing here reads them.
        return None

    def _inner_graph(
        self, proto: Any, given: Mapping[str, Any], known: set[str], depth: int
    ) -> Graph:
        """A branch or body, in which attributes may be those of the function around it."""
        if given:
            copy = type(proto)()
            copy.CopyFrom(proto)
            proto = copy
            for node in proto.node:
                for each in node.attribute:
                    if each.ref_attr_name and each.ref_attr_name in given:
                        value, name = given[each.ref_attr_name], each.name
                        each.CopyFrom(self.onnx.helper.make_attribute(name, value))
        return self._graph(proto, set(known), depth + 1)

    def tensor(self, proto: Any) -> np.ndarray:
        """A tensor's values; the file of external data is read."""
        shape = tuple(proto.dims)
        if any(side < 0 for side in shape) or math.prod(shape) > MAX_ELEMENTS:
            raise OnnxError(f"the tensor {proto.name!r} cannot have the shape {list(shape)}")
        if proto.data_location == self.onnx.TensorProto.EXTERNAL:
            return self._external(proto, shape)
        try:
            return np.asarray(self.onnx.numpy_helper.to_array(proto))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise OnnxError(f"the tensor {proto.name!r} is damaged: {error}") from error

    def _external(self, proto: Any, shape: Sequence[int]) -> np.ndarray:
        if not proto.external_data:
            self.emptied.add(proto.name)
            return np.broadcast_to(np.zeros((), self._dtype(proto)), shape)
        entries = {each.key: each.value for each in proto.external_data}
        location = entries.get("location", "")
        if self.folder is None:
            raise OnnxError(
                f"the tensor {proto.name!r} lies in the file {location!r}: give the model's path, "
                f"and not its bytes"
            )
        folder = self.folder.resolve()
        path = (folder / location).resolve()
        if not location or not path.is_relative_to(folder) or path == folder:
            raise OnnxError(
                f"the tensor {proto.name!r} lies in {location!r}, outside of the model's folder"
            )
        try:
            dtype = self._dtype(proto)
            offset = int(entries.get("offset", 0))
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                length = math.prod(shape) * dtype.itemsize
                if not 0 <= offset <= size - length:
                    raise OnnxError(
                        f"the tensor {proto.name!r} needs {length:,} bytes at {offset:,}, but "
                        f"{location!r} has {size:,}"
                    )
                file.seek(offset)
                return np.fromfile(file, dtype, math.prod(shape)).reshape(shape)
        except (OSError, KeyError, TypeError) as error:
            raise OnnxError(f"the tensor {proto.name!r} cannot be read: {error}") from error

    def _dtype(self, proto: Any) -> np.dtype:
        return np.dtype(self.onnx.helper.tensor_dtype_to_np_dtype(proto.data_type))

    def _sparse(self, proto: Any) -> np.ndarray:
        """A sparse tensor, as a dense one."""
        shape = tuple(proto.dims)
        if any(side < 0 for side in shape) or math.prod(shape) > MAX_DENSE:
            raise OnnxError(f"a sparse tensor cannot have the shape {list(shape)}")
        values, indices = self.tensor(proto.values), self.tensor(proto.indices)
        dense = np.zeros(shape, values.dtype)
        if indices.ndim == 1:
            dense.reshape(-1)[indices] = values
        else:
            dense[tuple(indices.T)] = values
        return dense

    def _info(self, proto: Any) -> TensorInfo:
        if not proto.type.HasField("tensor_type"):
            return TensorInfo(proto.name)
        tensor = proto.type.tensor_type
        dtype = None
        if tensor.elem_type:
            dtype = np.dtype(self.onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        if not tensor.HasField("shape"):
            return TensorInfo(proto.name, dtype)
        return TensorInfo(proto.name, dtype, tuple(map(_side, tensor.shape.dim)))


def _domain(name: str) -> str:
    return STANDARD if name == "ai.onnx" else name


def _side(proto: Any) -> int | str | None:
    """A side's length, or its name, or None."""
    if not proto.HasField("dim_value"):
        return proto.dim_param.strip("?") or None  # "?" is no name that sides could share
    return proto.dim_value if proto.dim_value >= 0 else None  # some write −1 for one that is free


def _constant(attributes: Mapping[str, Any]) -> np.ndarray:
    """The value of a node `Constant`."""
    for name, dtype in (
        ("value", None),
        ("sparse_value", None),
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
        ("value_string", object),
        ("value_strings", object),
    ):
        if name in attributes:
            return np.asarray(attributes[name], dtype)
    raise OnnxError("a node Constant has no value")
