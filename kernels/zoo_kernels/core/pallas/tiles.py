"""Tiles: arrays of rows by channels that a program holds in registers, 16 bytes to a thread.

A thread's 16 bytes are 4 float32 or 8 half-precision channels of one row, where the number of
channels allows; with an odd number its elements are loaded one by one. Triton's arrays have sides
that are powers of two, so what lies beyond an array's end is masked, always: jax 0.10 does not do
it by itself.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

VECTOR_BYTES = 16  # that a thread loads at once
MAX_WIDTH_BYTES = 256  # of one row of a tile

# Offsets are 32 bits wide.
MAX_ELEMENTS = 2**31 - 2**24
DTYPES = ("float32", "bfloat16", "float16")


class Tile(NamedTuple):
    """A tile's sides, and the warps whose threads hold one vector of it each."""

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


def choose_tile(channels: int, dtype: Any, warps: int, row_costs: Mapping[int, float]) -> Tile:
    """The tile that costs least for this number of channels; of several the widest.

    A tile of narrow rows leaves fewer channels of the last one masked, but the threads of a warp
    ask for more lines of the cache.

    Args:
      channels: of the array.
      dtype: of its elements.
      warps: of a program.
      row_costs: bytes of a tile's row → what an element costs; 1 for widths that are not listed.
    """
    size = jnp.dtype(dtype).itemsize
    elements = 32 * warps * VECTOR_BYTES // size
    vector = VECTOR_BYTES // size
    widths = [vector << i for i in range(8) if (vector << i) * size <= MAX_WIDTH_BYTES]

    def cost(width: int) -> float:
        return cdiv(channels, width) * width * row_costs.get(width * size, 1.0)

    width = min(reversed(widths), key=cost)
    return Tile(elements // width, width, warps)


def cdiv(a: int, b: int) -> int:
    """The quotient, rounded up."""
    return -(-a // b)


def load(ref: Any, offsets: jax.Array, mask: jax.Array) -> jax.Array:
    """Masked load: ref[offsets] in float32, zero where the mask is not set."""
    from jax.experimental.pallas import triton

    return triton.load(ref.at[offsets], mask=mask, other=0.0).astype(jnp.float32)


def store(ref: Any, offsets: jax.Array, values: jax.Array, mask: jax.Array) -> None:
    """Masked store: ref[offsets] = values where the mask is set, in ref's dtype."""
    from jax.experimental.pallas import triton

    triton.store(ref.at[offsets], values.astype(ref.dtype), mask=mask)


def loop(steps: int, step: Callable[[Any, Any], Any], carry: Any) -> Any:
    """`lax.fori_loop` from 0, without a loop for a single step."""
    return step(0, carry) if steps == 1 else lax.fori_loop(0, steps, step, carry)


def unsupported(*arrays: Any) -> str | None:
    """The reason why no kernel here takes these arrays, or None."""
    for array in arrays:
        if array is None:
            continue
        if array.dtype.name not in DTYPES:
            return f"takes {', '.join(DTYPES)}, got {array.dtype}"
        if not all(isinstance(n, int) for n in array.shape):  # of jax.export
            return f"takes sizes that are known, got {array.shape}"
        if array.size > MAX_ELEMENTS:
            return f"takes at most {MAX_ELEMENTS} elements, got {array.shape}"
    return None
