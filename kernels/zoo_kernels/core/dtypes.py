"""The dtypes that the operators take, and the one that they accumulate in."""

import jax.numpy as jnp

DTYPES = ("float32", "bfloat16", "float16", "float64")


def accumulation_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """The dtype to accumulate in: float32, or float64 where the operands are."""
    return jnp.promote_types(dtype, jnp.float32)
