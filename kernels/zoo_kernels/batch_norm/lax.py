"""Batch normalisation in plain jnp, which jax differentiates in every mode."""

from typing import Any

import jax
import jax.numpy as jnp

from zoo_kernels.batch_norm import BatchNormSpec, apply_statistics, average_over_devices
from zoo_kernels.bias_act.lax import activate
from zoo_kernels.core import dispatch
from zoo_kernels.core.dtypes import accumulation_dtype


def _forward(
    spec: BatchNormSpec, x: jax.Array, scale: jax.Array, bias: jax.Array, residual: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """→ y, mean, var."""
    axes = tuple(range(x.ndim - 1))
    values = x.astype(accumulation_dtype(x.dtype))
    mean = average_over_devices(spec, values.mean(axes))
    var = average_over_devices(spec, jnp.square(values - mean).mean(axes))
    linear = spec._replace(act="identity")
    z = apply_statistics(linear, values, scale, bias, mean, var, residual)
    return activate(spec.act, z).astype(x.dtype), mean, var


IMPLEMENTATION = dispatch.Implementation(dispatch.LAX, {"forward": _forward})
