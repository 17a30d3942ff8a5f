"""Batch normalisation by XLA."""

import jax
import jax.numpy as jnp
from jax import lax

from kernels import activations, dispatch
from kernels.batch_norm import Static
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
    kept = (
        activations.ACTIVATIONS[static.act].value(z) if activations.keeps_output(static.act) else z
    )
    dz = dy.astype(wx.dtype) * activations.slope(static.act, kept)
    axes = tuple(range(x.ndim - 1))
    dbias, dscale = dz.sum(axis=axes), (dz * xhat).sum(axis=axes)
    dxhat = dz * scale
    dx = inv * (dxhat - _average(static, dxhat) - xhat * _average(static, dxhat * xhat))
    count = wx.size // wx.shape[-1] * _devices(static)
    dmean, dvar = _total(static, x, dmean), _total(static, x, dvar)
    dx = dx + (dmean + 2 * dvar * (wx - mean)) / count
    dresidual = None if residual is None else dz.astype(residual.dtype)
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(bias.dtype), dresidual


def _normalised(static: Static, x: jax.Array, mean: jax.Array, var: jax.Array) -> jax.Array:
    return (x - mean) * lax.rsqrt(var + static.eps)


def _average(static: Static, x: jax.Array) -> jax.Array:
    """The mean of each channel, over the devices of `axis_name` too."""
    mean = x.mean(axis=tuple(range(x.ndim - 1)))
    return mean if static.axis_name is None else lax.pmean(mean, static.axis_name)


def _devices(static: Static) -> int:
    return 1 if static.axis_name is None else lax.axis_size(static.axis_name)


def _total(static: Static, x: jax.Array, cotangent: jax.Array) -> jax.Array:
    """Sums a cotangent of the statistics over the devices of `axis_name`.

    Where types tell what varies (`jax.shard_map`), the statistics do not, and their cotangent is
    the whole already.
    """
    axes = () if static.axis_name is None else static.axis_name
    axes = (axes,) if isinstance(axes, str) else axes
    varying = (
        jax.typeof(x).manual_axis_type.varying - jax.typeof(cotangent).manual_axis_type.varying
    )
    axes = tuple(axis for axis in axes if axis not in varying)
    return lax.psum(cotangent, axes) if axes else cotangent


IMPLEMENTATION = dispatch.Implementation("xla", {"forward": forward, "backward": backward})
