"""Batch normalisation in training: statistics, normalisation, activation, optional residual."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kernels import activations, dispatch
from kernels.bias_act import check_like, check_like_channels

OP = "batch_norm"


class Static(NamedTuple):
    """What an implementation must know of a call before it sees arrays."""

    eps: float
    act: str
    axis_name: str | tuple[str, ...] | None


def batch_norm(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    eps: float = 1e-5,
    act: str = "identity",
    residual: jax.Array | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    implementation: dispatch.Requested = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises each channel by its statistics over the batch (arXiv 1502.03167).

    y = act((x − mean) / √(var + eps) · scale + bias + residual)

    Args:
      x: [..., C], floating point.
      scale, bias: [C].
      eps: added to the variance.
      act: an activation's name, as for `bias_act`.
      residual: like x, added before the activation.
      axis_name: mapped axis or axes, such as `vmap`'s, to take the statistics over as well.
      implementation: None chooses by platform, a name is strict, a sequence is tried in order.

    Returns:
      y like x, and the batch's mean and biased variance, [C], in float32 (float64 for float64).
      The variance comes from deviations from the mean, so a mean far from zero does no harm.

    Raises:
      ValueError, TypeError: arguments that do not fit each other.
    """
    activations.check(OP, act)
    x, scale, bias = jnp.asarray(x), jnp.asarray(scale), jnp.asarray(bias)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{OP}: x must be floating point, got {x.dtype}")
    if x.ndim < 2:
        raise ValueError(f"{OP}: x must be [..., C] with something to average, got {x.shape}")
    check_like_channels(OP, x, scale=scale, bias=bias)
    residual = None if residual is None else jnp.asarray(residual)
    check_like(OP, x, residual)
    if isinstance(axis_name, list):
        axis_name = tuple(axis_name)
    static = Static(float(eps), act, axis_name)
    return _batch_norm(static, implementation, x, scale, bias, residual)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _batch_norm(
    static: Static,
    requested: dispatch.Requested,
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    residual: jax.Array | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    return dispatch.run(OP, "forward", requested, static, x, scale, bias, residual)


def _fwd(
    static: Static,
    requested: dispatch.Requested,
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    residual: jax.Array | None,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], Any]:
    y, mean, var = _batch_norm(static, requested, x, scale, bias, residual)
    return (y, mean, var), (x, scale, bias, residual, mean, var)


def _bwd(static: Static, requested: dispatch.Requested, saved: Any, cotangents: Any) -> Any:
    return dispatch.run(OP, "backward", requested, static, *saved, *cotangents)


_batch_norm.defvjp(_fwd, _bwd)
