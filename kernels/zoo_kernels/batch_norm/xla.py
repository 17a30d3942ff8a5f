"""Batch normalisation by XLA: 3 passes over memory forward, and 5 backward.

The passes take the compiler's `Reductions` first: `cpu` registers them with others.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from zoo_kernels.batch_norm import (
    BatchNormSpec,
    apply_statistics,
    average_over_devices,
    count_devices,
    normalise,
    sum_over_devices,
)
from zoo_kernels.core import activations, dispatch
from zoo_kernels.core.dtypes import accumulation_dtype
from zoo_kernels.core.reductions import XLA, Reductions


def forward(
    reductions: Reductions,
    spec: BatchNormSpec,
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    residual: jax.Array | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """→ y, mean, var.

    The statistics take one pass over the deviations from a shift, the mean of the images' first
    pixels, which is about as near to the batch's mean as any value is: so their squares lose no
    digits where the mean is far from zero.
    """
    count = x.size // x.shape[-1]
    shift = x[:, *[0] * (x.ndim - 2)].astype(accumulation_dtype(x.dtype)).mean(axis=0)

    def moments(x: jax.Array, shift: jax.Array) -> tuple[jax.Array, jax.Array]:
        deviation = x.astype(shift.dtype) - shift
        return deviation, jnp.square(deviation)

    deviation, squares = (s / count for s in reductions.sum_rows(moments, [x], [shift]))
    own_mean = shift + deviation
    own_var = jnp.maximum(squares - jnp.square(deviation), 0)
    mean = average_over_devices(spec, own_mean)
    var = average_over_devices(spec, own_var + jnp.square(own_mean - mean))
    y = apply_statistics(spec, x, scale, bias, mean, var, residual)
    return reductions.materialize(y), mean, var


def backward(
    reductions: Reductions,
    spec: BatchNormSpec,
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

    z is recomputed from x rather than kept. Across devices the parameters' gradients are this
    device's share, as for any parameter; the statistics' are the whole.
    """
    vectors = (mean, var, scale, bias)
    arrays = (x, dy) if residual is None else (x, dy, residual)

    def compute_dz(*operands: jax.Array) -> tuple[jax.Array, jax.Array]:
        """→ dz, and the normalised x."""
        x, dy, *residual = operands[:-4]
        mean, var, scale, bias = operands[-4:]
        xhat = normalise(spec, x, mean, var)
        z = xhat * scale + bias
        for r in residual:
            z = z + r.astype(z.dtype)
        return dy.astype(z.dtype) * activations.derivative_at(spec.act, z), xhat

    def products(*operands: jax.Array) -> tuple[jax.Array, jax.Array]:
        dz, xhat = compute_dz(*operands)
        return dz, dz * xhat

    dbias, dscale = reductions.sum_rows(products, arrays, vectors)
    dz, xhat = compute_dz(*arrays, *vectors)
    count = x.size // x.shape[-1]
    factor = scale * lax.rsqrt(var + spec.eps)
    dx = factor * (
        dz
        - average_over_devices(spec, dbias / count)
        - xhat * average_over_devices(spec, dscale / count)
    )
    dmean, dvar = sum_over_devices(spec, x, dmean), sum_over_devices(spec, x, dvar)
    deviation = x.astype(mean.dtype) - mean
    dx = dx + (dmean + 2 * dvar * deviation) / (count * count_devices(spec))
    dresidual = None if residual is None else dz.astype(residual.dtype)
    dx = reductions.materialize(dx.astype(x.dtype))
    return dx, dscale.astype(scale.dtype), dbias.astype(bias.dtype), dresidual


def bind_passes(reductions: Reductions) -> dispatch.Passes:
    """The passes with a compiler's reductions."""
    return {
        "forward": functools.partial(forward, reductions),
        "backward": functools.partial(backward, reductions),
    }


IMPLEMENTATION = dispatch.Implementation("xla", bind_passes(XLA))
