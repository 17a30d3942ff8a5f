"""How a program's threads lie over memory: a tile of rows by channels, 16 bytes to a thread.

A thread's 16 bytes are 4 float32 or 8 half-precision channels of one row, where the number of
channels allows; with an odd number its elements are loaded one by one. Triton's arrays have sides
that are powers of two, so what juts out is masked, always: jax 0.10 does not do it by itself.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

VECTOR = 16  # bytes
WIDEST = 256  # bytes of one row in one tile

# Offsets are 32 bits wide.
MOST_ELEMENTS = 2**31 - 2**24
DTYPES = ("float32", "bfloat16", "float16")


class Tile(NamedTuple):
    """A tile's sides, and the warps whose threads have a vector each of it."""

    rows: int
    channels: int
    warps: int

    def indices(self) -> tuple[jax.Array, jax.Array]:
        """The row and the channel of each element, both [rows, channels]."""
        shape = (self.rows, self.channels)
        return (
            lax.broadcasted_iota(jnp.int32, shape, 0),
            lax.broadcasted_iota(jnp.int32, shape, 1),
        )


def tile(channels: int, dtype: Any, warps: int, widest: int = WIDEST) -> Tile:
    """The tile that leaves fewest channels of its last column idle, and of these the widest."""
    size = jnp.dtype(dtype).itemsize
    elements = 32 * warps * VECTOR // size
    least = VECTOR // size
    widths = [least << i for i in range(8) if (least << i) * size <= widest]
    width = min(reversed(widths), key=lambda w: cdiv(channels, w) * w)
    return Tile(elements // width, width, warps)


def cdiv(a: int, b: int) -> int:
    """The quotient, rounded up."""
    return -(-a // b)


def load(ref: Any, offsets: jax.Array, mask: jax.Array) -> jax.Array:
    """ref[offsets] in float32, zero where the mask is not set."""
    from jax.experimental.pallas import triton

    return triton.load(ref.at[offsets], mask=mask, other=0.0).astype(jnp.float32)


def store(ref: Any, offsets: jax.Array, values: jax.Array, mask: jax.Array) -> None:
    """ref[offsets] = values where the mask is set, in ref's dtype."""
    from jax.experimental.pallas import triton

    triton.store(ref.at[offsets], values.astype(ref.dtype), mask=mask)


def refuses(*arrays: Any) -> str | None:
    """What no kernel here takes: the reason, or None."""
    for array in arrays:
        if array is None:
            continue
        if array.dtype.name not in DTYPES:
            return f"takes {', '.join(DTYPES)}, got {array.dtype}"
        if array.size > MOST_ELEMENTS:
            return f"takes at most {MOST_ELEMENTS} elements, got {array.shape}"
    return None
