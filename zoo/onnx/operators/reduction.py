"""Reductions along axes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from zoo.onnx.registry import Call, Value, numeric, operator

# What is computed, by the operator's name; of NumPy or jax.numpy.
REDUCTIONS: dict[str, Callable[..., Value]] = {
    "ReduceL1": lambda m, x, axes, keep: m.sum(m.abs(x), axes, keepdims=keep),
    "ReduceL2": lambda m, x, axes, keep: m.sqrt(m.sum(m.square(x), axes, keepdims=keep)),
    "ReduceLogSum": lambda m, x, axes, keep: m.log(m.sum(x, axes, keepdims=keep)),
    "ReduceLogSumExp": lambda m, x, axes, keep: jax.nn.logsumexp(x, axes, keepdims=keep),
    "ReduceMax": lambda m, x, axes, keep: _reduce_extreme(m.max, x, axes, keep, -1),
    "ReduceMean": lambda m, x, axes, keep: m.mean(x, axes, keepdims=keep),
    "ReduceMin": lambda m, x, axes, keep: _reduce_extreme(m.min, x, axes, keep, 1),
    "ReduceProd": lambda m, x, axes, keep: m.prod(x, axes, keepdims=keep),
    "ReduceSum": lambda m, x, axes, keep: m.sum(x, axes, keepdims=keep),
    "ReduceSumSquare": lambda m, x, axes, keep: m.sum(m.square(x), axes, keepdims=keep),
}


def _reduce_extreme(
    function: Callable[..., Value], x: Value, axes: tuple[int, ...] | None, keep: bool, sign: int
) -> Value:
    """The maximum or minimum; of nothing at all, the infinity of a sign or the type's limit."""
    if x.dtype == bool:
        return function(x, axes, keepdims=keep, initial=sign > 0)
    if np.issubdtype(x.dtype, np.integer):
        limits = jnp.iinfo(x.dtype)
        initial: float = limits.max if sign > 0 else limits.min
    else:
        initial = sign * np.inf
    return function(x, axes, keepdims=keep, initial=np.asarray(initial, x.dtype))


def _make(name: str) -> Callable[..., Value]:
    compute = REDUCTIONS[name]

    def reduce(call: Call, x: Value, axes: Value = None) -> Value:
        found = call.get("axes") if axes is None else [int(axis) for axis in axes]
        if not found and call.get("noop_with_empty_axes", 0):
            return compute(numeric(x), x, (), True) if name != "ReduceLogSumExp" else x
        chosen = tuple(found) if found else None
        result = compute(numeric(x), x, chosen, bool(call.get("keepdims", 1)))
        return result.astype(x.dtype)

    return reduce


for _name in REDUCTIONS:
    operator(_name, known=(1,))(_make(_name))


@operator("ArgMax")
def arg_max(call: Call, x: Value) -> Value:
    """Where along an axis the maximum is."""
    return _find(call, x, jnp.argmax)


@operator("ArgMin")
def arg_min(call: Call, x: Value) -> Value:
    """Where along an axis the minimum is."""
    return _find(call, x, jnp.argmin)


def _find(call: Call, x: Value, function: Callable[..., jax.Array]) -> jax.Array:
    axis, keep = call.get("axis", 0), bool(call.get("keepdims", 1))
    if not call.get("select_last_index", 0):
        return function(x, axis, keepdims=keep)
    return x.shape[axis] - 1 - function(jnp.flip(x, axis), axis, keepdims=keep)


@operator("CumSum", known=(1,))
def cumulative_sum(call: Call, x: Value, axis: Value) -> Value:
    """Sums of all up to each place along an axis."""
    return _accumulate(call, x, int(axis.reshape(())), jnp.cumsum, 0)


@operator("CumProd", known=(1,))
def cumulative_product(call: Call, x: Value, axis: Value) -> Value:
    """Products of all up to each place along an axis."""
    return _accumulate(call, x, int(axis.reshape(())), jnp.cumprod, 1)


def _accumulate(
    call: Call, x: Value, axis: int, function: Callable[..., jax.Array], neutral: int
) -> jax.Array:
    x = jnp.asarray(x)
    if call.get("reverse", 0):
        x = jnp.flip(x, axis)
    y = function(x, axis, dtype=x.dtype)
    if call.get("exclusive", 0):
        pads = [(0, 0)] * x.ndim
        pads[axis] = (1, 0)
        y = jax.lax.slice_in_dim(jnp.pad(y, pads, constant_values=neutral), 0, -1, axis=axis)
    return jnp.flip(y, axis) if call.get("reverse", 0) else y
