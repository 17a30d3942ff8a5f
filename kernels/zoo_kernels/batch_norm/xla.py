"""Batch normalisation by XLA: 3 passes over memory forward, and 5 backward."""

import jax
import jax.numpy as jnp
from jax import lax

from zoo_kernels.batch_norm import BatchNormSpec, average, devices, normalised, total, value
from zoo_kernels.core import activations, cpu, dispatch
from zoo_kernels.core.linear import wide


def forward(
    how: cpu.How,
    spec: BatchNormSpec,
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    residual: jax.Array | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """→ y, mean, var.

    The statistics take one pass. Values count from the mean of the images' first pixels, which is
    about as near to the whole mean as any value is: so their squares lose no digits where the mean
    is far from zero.
    """
    count = x.size // x.shape[-1]
    origin = x[:, *[0] * (x.ndim - 2)].astype(wide(x.dtype)).mean(axis=0)

    def moments(x: jax.Array, origin: jax.Array) -> tuple[jax.Array, jax.Array]:
        away = x.astype(origin.dtype) - origin
        return away, jnp.square(away)

    away, squares = (s / count for s in how.sums(moments, [x], [origin]))
    own = origin + away
    mean = average(spec, own)
    var = average(spec, jnp.maximum(squares - jnp.square(away), 0) + jnp.square(own - mean))
    return how.once(value(spec, x, scale, bias, mean, var, residual)), mean, var


def backward(
    how: cpu.How,
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

    z is computed again from x rather than kept. Across devices the parameters' gradients are this
    device's share, as for any parameter; the statistics' are the whole.
    """
    vectors = (mean, var, scale, bias)
    arrays = (x, dy) if residual is None else (x, dy, residual)

    def slopes(*operands: jax.Array) -> tuple[jax.Array, jax.Array]:
        """→ dz, and the normalised x."""
        x, dy, *residual = operands[:-4]
        mean, var, scale, bias = operands[-4:]
        xhat = normalised(spec, x, mean, var)
        z = xhat * scale + bias
        for r in residual:
            z = z + r.astype(z.dtype)
        return dy.astype(z.dtype) * activations.slope_at(spec.act, z), xhat

    def products(*operands: jax.Array) -> tuple[jax.Array, jax.Array]:
        dz, xhat = slopes(*operands)
        return dz, dz * xhat

    dbias, dscale = how.sums(products, arrays, vectors)
    dz, xhat = slopes(*arrays, *vectors)
    count = x.size // x.shape[-1]
    factor = scale * lax.rsqrt(var + spec.eps)
    dx = factor * (dz - average(spec, dbias / count) - xhat * average(spec, dscale / count))
    dmean, dvar = total(spec, x, dmean), total(spec, x, dvar)
    away = x.astype(mean.dtype) - mean
    dx = dx + (dmean + 2 * dvar * away) / (count * devices(spec))
    dresidual = None if residual is None else dz.astype(residual.dtype)
    dx = how.once(dx.astype(x.dtype))
    return dx, dscale.astype(scale.dtype), dbias.astype(bias.dtype), dresidual


IMPLEMENTATION = dispatch.Implementation(
    "xla", {"forward": cpu.by_platform(forward), "backward": cpu.by_platform(backward)}
)
