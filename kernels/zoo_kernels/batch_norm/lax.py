"""Batch normalisation in plain jnp, which jax differentiates in every mode."""

import jax
import jax.numpy as jnp

from zoo_kernels.batch_norm import BatchNormSpec, average_over_devices, normalise
from zoo_kernels.bias_act.lax import activate
from zoo_kernels.core import dispatch
from zoo_kernels.core.dtypes import accumulation_dtype


def _forward(
    spec: BatchNormSpec,
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    residual: jax.Array | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """→ y, mean, var."""
    axes = tuple(range(x.ndim - 1))
    values = x.astype(accumulation_dtype(x.dtype))
    mean = average_over_devices(spec, values.mean(axes))
    var = average_over_devices(spec, jnp.square(values - mean).mean(axes))
    z = normalise(spec, x, mean, var) * scale + bias
    if residual is not None:
        z = z + residual.astype(z.dtype)
    return activate(spec.act, z).astype(x.dtype), mean, var


IMPLEMENTATION = dispatch.Implementation(dispatch.LAX, {"forward": _forward})
