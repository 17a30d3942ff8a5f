"""Batch normalisation by XLA."""

import jax
import jax.numpy as jnp
from jax import lax

from kernels import activations, dispatch
from kernels.batch_norm import Static, average, devices, total
from kernels.xla.linear import wide


def forward(
    static: Static,
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    residual: jax.Array | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """→ y, mean, var. Two passes for the statistics: one-pass formulas cancel far from zero.

    The second corrects the mean as well: a long float32 sum of large values has lost digits.
    """
    wx = x.astype(wide(x.dtype))
    mean = _average(static, wx)
    deviations = wx - mean
    rest = _average(static, deviations)
    var = jnp.maximum(_average(static, jnp.square(deviations)) - jnp.square(rest), 0)
    mean = mean + rest
    z = _normalised(static, wx, mean, var) * scale + bias
    if residual is not None:
        z = z + residual.astype(z.dtype)
    return activations.ACTIVATIONS[static.act].value(z).astype(x.dtype), mean, var


def backward(
    static: Static,
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    residual: jax.Array | None,
    mean: jax.Array,
    var: jax.Array,
    dy: jax.Array,
    dmean: jax.Array,
    dvar: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """→ the gradients of x, scale, bias and residual.

    z is computed again from x rather than kept. Across devices the parameters' gradients are this
    device's share, as for any parameter; the statistics' are the whole.
    """
    wx = x.astype(wide(x.dtype))
    inv = lax.rsqrt(var + static.eps)
    xhat = _normalised(static, wx, mean, var)
    z = xhat * scale + bias
    if residual is not None:
        z = z + residual.astype(z.dtype)
    dz = dy.astype(wx.dtype) * activations.slope_at(static.act, z)
    axes = tuple(range(x.ndim - 1))
    dbias, dscale = dz.sum(axis=axes), (dz * xhat).sum(axis=axes)
    dxhat = dz * scale
    dx = inv * (dxhat - _average(static, dxhat) - xhat * _average(static, dxhat * xhat))
    count = wx.size // wx.shape[-1] * devices(static)
    dmean, dvar = total(static, x, dmean), total(static, x, dvar)
    dx = dx + (dmean + 2 * dvar * (wx - mean)) / count
    dresidual = None if residual is None else dz.astype(residual.dtype)
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(bias.dtype), dresidual


def _normalised(static: Static, x: jax.Array, mean: jax.Array, var: jax.Array) -> jax.Array:
    return (x - mean) * lax.rsqrt(var + static.eps)


def _average(static: Static, x: jax.Array) -> jax.Array:
    """The mean of each channel."""
    return average(static, x.mean(axis=tuple(range(x.ndim - 1))))


IMPLEMENTATION = dispatch.Implementation("xla", {"forward": forward, "backward": backward})
