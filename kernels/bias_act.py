"""Bias, optional residual and activation as one operator."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kernels import activations, dispatch

OP = "bias_act"


class Static(NamedTuple):
    """What an implementation must know of a call before it sees arrays."""

    act: str
    residual: bool


def bias_act(
    x: jax.Array,
    bias: jax.Array,
    act: str = "relu",
    *,
    residual: jax.Array | None = None,
    implementation: dispatch.Requested = None,
) -> jax.Array:
    """act(x + bias + residual), with one pass over memory each way.

    Args:
      x: [..., C], floating point.
      bias: [C].
      act: "identity", "relu", "relu6", "leaky_relu", "elu", "sigmoid", "tanh", "hard_sigmoid",
        "hard_swish", "silu", "gelu" (by tanh) or "gelu_exact" (by erf).
      residual: like x, added before the activation.
      implementation: None chooses by platform, a name is strict, a sequence is tried in order.

    Returns:
      An array like x. The sum is taken in float32 or better, and rounded once.

    Raises:
      ValueError, TypeError: arguments that do not fit each other.

    The backward pass gives the input's and the bias's gradient together, and keeps y where y
    suffices (relu and its like), else the value before the activation. At their kinks relu and
    relu6 have slope 0, as in PyTorch.
    """
    activations.check(OP, act)
    x, bias = jnp.asarray(x), jnp.asarray(bias)
    if x.ndim < 1 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{OP}: x must be floating point, [..., C], got {x.dtype}{list(x.shape)}")
    check_like_channels(OP, x, bias=bias)
    residual = None if residual is None else jnp.asarray(residual)
    check_like(OP, x, residual)
    static = Static(act, residual is not None)
    return _bias_act(static, implementation, x, bias, residual)


def check_like_channels(op: str, x: jax.Array, **vectors: jax.Array) -> None:
    """Raises ValueError unless each vector has one entry for each channel of x."""
    for name, vector in vectors.items():
        if vector.shape != x.shape[-1:]:
            raise ValueError(
                f"{op}: {name} must have shape {x.shape[-1:]} for x of shape {x.shape}, "
                f"got {vector.shape}"
            )


def check_like(op: str, x: jax.Array, residual: jax.Array | None) -> None:
    """Raises ValueError unless the residual, where there is one, has x's shape and dtype."""
    if residual is not None and (residual.shape, residual.dtype) != (x.shape, x.dtype):
        raise ValueError(
            f"{op}: residual must be like x, {x.dtype}{list(x.shape)}, "
            f"got {residual.dtype}{list(residual.shape)}"
        )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _bias_act(
    static: Static,
    requested: dispatch.Requested,
    x: jax.Array,
    bias: jax.Array,
    residual: jax.Array | None,
) -> jax.Array:
    return dispatch.run(OP, "forward", requested, static, x, bias, residual)[0]


def _fwd(
    static: Static,
    requested: dispatch.Requested,
    x: jax.Array,
    bias: jax.Array,
    residual: jax.Array | None,
) -> tuple[jax.Array, Any]:
    y, z = dispatch.run(OP, "forward", requested, static, x, bias, residual)
    return y, (y if activations.keeps_output(static.act) else z, bias)


def _bwd(
    static: Static, requested: dispatch.Requested, saved: Any, dy: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    kept, bias = saved
    dx, dbias = dispatch.run(OP, "backward", requested, static, kept, bias, dy)
    return dx, dbias, dx if static.residual else None


_bias_act.defvjp(_fwd, _bwd)
