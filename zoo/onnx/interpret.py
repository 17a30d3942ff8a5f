"""Computes a graph, node by node, in jax."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from zoo.onnx import operators
from zoo.onnx.errors import OnnxError, UnsupportedError
from zoo.onnx.graph import Graph, Node
from zoo.onnx.registry import Call, Operator, Value, find, is_known

__all__ = ["find_known", "run_graph"]

_ = operators  # registers them
# What NumPy, jax and operators raise where values do not fit.
_MISFITS = (
    *(TypeError, ValueError, IndexError, KeyError, AttributeError, ArithmeticError),
    *(NotImplementedError, AssertionError),
)


# What is called in place of computing a node: (node, its inputs, what computes it) → its outputs.
Around = Callable[[Node, Sequence[Value], Callable[[], Sequence[Value]]], Sequence[Value]]


def run_graph(
    graph: Graph,
    inputs: Sequence[Value],
    outer: Mapping[str, Value] | None = None,
    around: Around | None = None,
) -> list[Value]:
    """The outputs of a graph.

    What depends on nothing but constants, shapes and inputs that are NumPy's arrays is computed
    while the program is traced, and is no part of it.

    Args:
      graph: the graph.
      inputs: one for each of its inputs; None leaves out an optional one.
      outer: values by name that it may read from outside, such as parameters.
      around: is called for each node that is not inside another one.

    Raises:
      OnnxError: values do not fit the operators.
      UnsupportedError: an operator needs a value that is not known when the program is traced.
    """
    values: dict[str, Value] = {"": None, **(outer or {}), **graph.constants}
    values |= {info.name: value for info, value in zip(graph.inputs, inputs, strict=True)}
    for node in graph.nodes:
        compute = functools.partial(_run_node, node, values)
        if around is None:
            outputs = compute()
        else:
            outputs = around(node, [values[name] for name in node.inputs], compute)
        for name, value in zip(node.outputs, outputs, strict=False):
            if name:
                values[name] = value
    return [values[info.name] for info in graph.outputs]


def _run_node(node: Node, values: Mapping[str, Value]) -> Sequence[Value]:
    operator = find(node)
    if operator is None:
        raise UnsupportedError(f"there is no operator {node.title}, version {node.version}")
    arguments = [values[name] for name in node.inputs]

    def run_inner(graph: Graph, inputs: Sequence[Value]) -> list[Value]:
        return run_graph(graph, inputs, values)

    call = Call(node, run_inner)
    captured = [values[name] for graph in node.graphs() for name in graph.captured()]
    try:
        arguments = _make_known(node, operator, arguments)
        if is_known(arguments) and is_known(captured):
            # Overflow gives infinity here as anywhere else, and no warning.
            with jax.ensure_compile_time_eval(), np.errstate(all="ignore"):
                return [_to_numpy(each) for each in _as_outputs(operator.run(call, *arguments))]
        return _as_outputs(operator.run(call, *arguments))
    except OnnxError:
        raise
    except _MISFITS as error:
        shapes = ", ".join(_describe(value) for value in arguments)
        raise OnnxError(f"{node.title}: inputs {shapes}: {error}") from error


def _make_known(node: Node, operator: Operator, arguments: Sequence[Value]) -> list[Value]:
    """Arguments, of which those that have to be known are NumPy's."""
    made = list(arguments)
    for number, value in enumerate(arguments):
        if number not in operator.known or is_known(value):
            continue
        try:
            made[number] = _to_numpy(value)
        except jax.errors.TracerArrayConversionError:
            raise UnsupportedError(
                f"{node.title}: the value of its input {node.inputs[number]!r} must be known when "
                f"the model is traced; give the inputs that it depends on as NumPy arrays, "
                f"outside of jax.jit"
            ) from None
    return made


def _as_outputs(result: Any) -> Sequence[Value]:
    return result if isinstance(result, tuple) else (result,)


def _to_numpy(value: Value) -> Value:
    if isinstance(value, list):
        return [_to_numpy(each) for each in value]
    return value if value is None else np.asarray(value)


def _describe(value: Value) -> str:
    if isinstance(value, list):
        return f"a sequence of {len(value)}"
    return "none" if value is None else f"{value.dtype}{list(value.shape)}"


def find_known(graph: Graph, wanted: Iterable[str] = ()) -> set[str]:
    """The names of values that must be known before a program of the graph is compiled.

    These are what shapes depend on, such as the second input of Reshape, and all that they are
    computed from; except where only the shape of a value counts.

    Args:
      graph: the graph.
      wanted: names of values that must be known too.
    """
    needed = set(wanted)
    for node in reversed(graph.nodes):
        operator = find(node)
        if operator is not None:
            needed |= {name for i, name in enumerate(node.inputs) if i in operator.known}
        counts = needed & set(node.outputs) and node.op not in ("Shape", "Size")
        for inner in node.graphs():
            names = [info.name for info in inner.outputs] if counts else []
            needed |= find_known(inner, names) & inner.captured()
        if counts:
            needed |= set(node.inputs)
    return needed - {""}
