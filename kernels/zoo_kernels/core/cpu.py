"""Helpers for formulations that XLA's compiler for CPUs turns into fast loops."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zoo_kernels.core import dispatch, jax_compat, sharding

# A number of rows or images, unsigned: a signed index that is only known at run time would be
# wrapped where negative, for each slice anew.
UnsignedIndex = Any


def as_index(value: int) -> UnsignedIndex:
    """A number of rows or images as an index."""
    return np.uint32(value)


def vary_like(start: Any, array: jax.Array) -> jax.Array:
    """A loop's initial value, varying over the mesh axes of an array that the loop adds to it."""
    return sharding.match_varying(jnp.asarray(start), array)[0]


def count_devices() -> int:
    """How many CPU devices an array may be sharded over."""
    try:
        return jax.device_count("cpu")
    except RuntimeError:  # JAX_PLATFORMS leaves the CPU out
        return 1


def count_lanes(images: int) -> int:
    """How many parts a batch is split into, so that each device has whole ones."""
    return math.gcd(images, count_devices()) if isinstance(images, int) else 1


def pad(x: jax.Array, padding: Sequence[Sequence[int]], value: float = 0) -> jax.Array:
    """Pads [N, H, W, …] with a value, or crops it where negative, and writes the result once."""
    config = [(0, 0, 0), *((low, high, 0) for low, high in padding), *[(0, 0, 0)] * (x.ndim - 3)]
    if not any(low or high for low, high, _ in config):
        return x
    padded: jax.Array = jax_compat.barrier(lax.pad(x, jnp.asarray(value, x.dtype), config))
    return padded


def materialize(x: jax.Array) -> jax.Array:
    """Returns x, and makes XLA compute it once and write it to memory.

    XLA otherwise computes an elementwise result again inside each operation that reads it. In a
    residual network such a result is a sum over all blocks of its stage before it, so every reader
    would read all of their outputs again, and slowly where it wants a transposed copy: column by
    column.
    """
    result: jax.Array = _materialize(None, x)
    return result


def _materialize_pass(_: None, x: jax.Array) -> jax.Array:
    if jax_compat.keeps_barriers():
        barred: jax.Array = jax_compat.barrier(x)
        return barred
    # A loop's result has to be written, as the loop may change it; this one never runs, which the
    # compiler cannot know.
    [count] = sharding.auto_shard(_at_most_one, [()], x)
    return lax.while_loop(lambda s: s[0] > 1, lambda s: (s[0] - 1, s[1] + 1), (count, x))[1]


def _at_most_one(x: jax.Array) -> list[jax.Array]:
    """A number that is at most 1 whatever x is, which the compiler cannot know."""
    corner = lax.slice(x, (0,) * x.ndim, (1,) * x.ndim).reshape(())
    return [(corner != corner).astype(jnp.int32)]


# Its gradient is that of the identity: there is none of a loop.
_materialize = dispatch.with_gradient(_materialize_pass, lambda _, x: x)
