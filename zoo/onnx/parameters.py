"""Which constants of a graph are parameters, and what they are called."""

import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp

from zoo.onnx.graph import Graph
from zoo.onnx.interpret import find_known

PARAMS, BATCH_STATS = "params", "batch_stats"
# What the inputs of layers are, for weights whose names say nothing; the first input is none.
ROLES = {
    "Conv": ("kernel", "bias"),
    "ConvTranspose": ("kernel", "bias"),
    "Gemm": ("kernel", "bias"),
    "MatMul": ("kernel",),
    "BatchNormalization": ("scale", "bias", "mean", "var"),
    "InstanceNormalization": ("scale", "bias"),
    "LayerNormalization": ("scale", "bias"),
    "GroupNormalization": ("scale", "bias"),
    "PRelu": ("slope",),
}
# Names that exporters give to weights that have none.
_NAMELESS = re.compile(r"(onnx::.*|val_\d+|const.*|\d+|.*Constant(_\d+)?_output_0)", re.IGNORECASE)
# Where the sides of a convolution's kernel are in the file, [out, in, kh, kw], and the other way.
HWIO, OIHW = (2, 3, 1, 0), (3, 2, 0, 1)
# The most bytes of a path: a checkpoint has a file of that name.
MAX_LENGTH = 200
# Of BatchNormalization: the inputs that are statistics.
_STATISTICS = (3, 4)

# The path of an array in the variables, with its collection: ("params", "conv1", "weight").
ParameterPath = tuple[str, ...]


def find_parameters(graph: Graph) -> dict[str, ParameterPath]:
    """The paths of a graph's parameters, by the names of their values.

    A parameter is a constant of floating point with more than one element, unless its value shapes
    the program, as the scales of Resize do. Names are taken apart at dots and slashes; those that
    an exporter made up are replaced by the node's.
    """
    known = find_known(graph)
    readers = _find_readers(graph)
    statistics = {
        name
        for node in graph.nodes
        if node.op == "BatchNormalization"
        for i, name in enumerate(node.inputs)
        if i in _STATISTICS
    }
    paths: dict[str, ParameterPath] = {}
    taken: set[ParameterPath] = set()
    for name, array in graph.constants.items():
        if array.size < 2 or not jnp.issubdtype(array.dtype, jnp.floating) or name in known:
            continue
        collection = BATCH_STATS if name in statistics else PARAMS
        path = (collection, *_split(readers.get(name, name) if _is_nameless(name) else name))
        if _clashes(path, taken) or len(".".join(path).encode()) > MAX_LENGTH:
            path = (collection, _shorten(re.sub(r"[./]", "_", name)))
        while _clashes(path, taken):
            path = (*path[:-1], path[-1] + "_")
        taken |= {path[:end] for end in range(2, len(path) + 1)} | {(*path, "")}
        paths[name] = path
    return paths


def find_kernels(graph: Graph, names: Iterable[str]) -> frozenset[str]:
    """The names of those parameters that are nothing but kernels of convolutions of images."""
    kernels = {name for name in names if graph.constants[name].ndim == 4}
    for node in graph.all_nodes():
        for i, name in enumerate(node.inputs):
            if node.op != "Conv" or i != 1:
                kernels.discard(name)
    return frozenset(kernels - {info.name for info in graph.outputs})


def _clashes(path: ParameterPath, taken: set[ParameterPath]) -> bool:
    """Whether a path leads to something that is there, or through an array."""
    through = any((*path[:end], "") in taken for end in range(2, len(path)))
    return path in taken or through


def _shorten(name: str) -> str:
    """The end of a name that is too long for that of a file, after a number that tells it apart."""
    if len(name.encode()) <= MAX_LENGTH:
        return name
    end = name.encode()[-MAX_LENGTH // 2 :].decode(errors="ignore")
    return f"{zlib.crc32(name.encode()):08x}_{end}"


def _is_nameless(name: str) -> bool:
    return _NAMELESS.fullmatch(name) is not None


def _split(name: str) -> list[str]:
    return [part for part in re.split(r"[./]", name) if part] or [name]


def _find_readers(graph: Graph) -> dict[str, str]:
    """For each value, the name of the first node that reads it, with what it is there."""
    readers: dict[str, str] = {}
    for node in graph.all_nodes():
        roles = ("", *ROLES.get(node.op, ()))
        for i, name in enumerate(node.inputs):
            role = roles[i] if 0 < i < len(roles) else f"input{i}"
            readers.setdefault(name, f"{node.label}/{role}")
    return readers


def gather_variables(
    graph: Graph, paths: Mapping[str, ParameterPath], kernels: Collection[str]
) -> dict[str, Any]:
    """Variables, as nested dicts, with the arrays of a graph's parameters; kernels as the zoo's."""
    variables: dict[str, Any] = {PARAMS: {}}
    for name, path in paths.items():
        inner = variables
        for part in path[:-1]:
            inner = inner.setdefault(part, {})
        array = graph.constants[name]
        inner[path[-1]] = array.transpose(HWIO) if name in kernels else array
    return variables


def pick_parameters(
    variables: Mapping[str, Any], paths: Mapping[str, ParameterPath]
) -> Iterator[tuple[str, Any]]:
    """Yields the names of values and the arrays that variables give them.

    Raises:
      KeyError: the variables lack one; the message has its path.
    """
    for name, path in paths.items():
        value: Any = variables
        for part in path:
            if not isinstance(value, Mapping) or part not in value:
                raise KeyError("/".join(path))
            value = value[part]
        yield name, value
