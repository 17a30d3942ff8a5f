"""Branches and loops."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.onnx.registry import Call, Value, is_known, numeric, operator

# The most steps of a loop whose number is known, each of which becomes a part of the program.
MAX_STEPS = 10_000


@operator("If")
def branch(call: Call, condition: Value) -> Value:
    """One of two graphs; both are part of the program where the condition is not known."""
    then, otherwise = call.get("then_branch"), call.get("else_branch")
    if is_known(condition):
        return tuple(call.run_graph(then if condition.all() else otherwise, []))

    def make(graph: Any) -> Any:
        return lambda: tuple(jnp.asarray(each) for each in call.run_graph(graph, []))

    return tuple(jax.lax.cond(condition.reshape(()), make(then), make(otherwise)))


@operator("Loop", known=(0, 1))
def loop(call: Call, count: Value, condition: Value, *state: Value) -> Value:
    """A graph again and again, so often as is known before."""
    body = call.get("body")
    steps = math.inf if count is None else int(count.reshape(()))
    values, going = list(state), condition is None or bool(condition.all())
    collected: list[list[Value]] = [[] for _ in range(len(body.outputs) - 1 - len(values))]
    step = 0
    while going and step < steps:
        if step == MAX_STEPS:
            raise NotImplementedError(f"more than {MAX_STEPS} steps")
        inputs = [np.asarray(step, np.int64), np.asarray(True), *values]
        outputs = call.run_graph(body, inputs)
        keeps_on, values = outputs[0], outputs[1 : 1 + len(state)]
        for parts, part in zip(collected, outputs[1 + len(state) :], strict=True):
            parts.append(part)
        if not is_known(keeps_on):
            try:
                keeps_on = np.asarray(keeps_on)
            except jax.errors.TracerArrayConversionError:
                raise NotImplementedError("when it ends must be known") from None
        going, step = bool(keeps_on.all()), step + 1
    stacked = []
    for parts, info in zip(collected, body.outputs[1 + len(state) :], strict=True):
        sides = [side if isinstance(side, int) else 0 for side in info.shape or ()]
        empty = np.zeros((0, *sides), info.dtype)
        stacked.append(numeric(*parts).stack(parts) if parts else empty)
    return *values, *stacked


@operator("Scan", since=9)
def scan(call: Call, *values: Value) -> Value:
    """A graph for each slice of arrays, with values that go from one to the next."""
    body, count = call.get("body"), call.get("num_scan_inputs")
    state, arrays = list(values[: len(values) - count]), values[len(values) - count :]
    extra = len(body.outputs) - len(state)
    in_axes = call.get("scan_input_axes") or [0] * count
    in_reversed = call.get("scan_input_directions") or [0] * count
    out_axes = call.get("scan_output_axes") or [0] * extra
    out_reversed = call.get("scan_output_directions") or [0] * extra
    slices = []
    for array, axis, backwards in zip(arrays, in_axes, in_reversed, strict=True):
        moved = jnp.moveaxis(jnp.asarray(array), axis, 0)
        slices.append(jnp.flip(moved, 0) if backwards else moved)

    def step(state: list[Value], slices: list[Value]) -> Any:
        outputs = [jnp.asarray(each) for each in call.run_graph(body, [*state, *slices])]
        return outputs[: len(state)], outputs[len(state) :]

    state, stacked = jax.lax.scan(step, [jnp.asarray(each) for each in state], slices)
    results = [
        jnp.moveaxis(jnp.flip(each, 0) if backwards else each, 0, axis)
        for each, axis, backwards in zip(stacked, out_axes, out_reversed, strict=True)
    ]
    return *state, *results
