"""How a pass sums over rows and keeps its results: by XLA, or by a loop for its CPU compiler.

On a CPU, XLA's own reductions over all but the last axis come after a pass that writes what is to
be summed, one for each sum. A loop that carries its totals reads its operands once for all of them,
a few rows at a time, and computes the terms while they are in registers.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from zoo_kernels.core import cpu, sharding
from zoo_kernels.core.dtypes import accumulation_dtype

# Elements in the rows of one step: as many float32 totals fit a core's first cache.
ELEMENTS_PER_STEP = 8192
# Rows that XLA's CPU compiler sums in one loop.
ROWS_PER_LOOP = 32


class Reductions(NamedTuple):
    """The parts of an elementwise operator's pass that depend on the compiler.

    Args:
      sum_rows: `sum_rows(terms, arrays, vectors=())` sums what `terms` makes of arrays' elements
        over all axes but the last. `terms` is elementwise: it takes rows [..., C] of each array,
        and the vectors [C] or what broadcasts against the rows, and gives arrays [..., C]. The
        result is a total [C] for each of these.
      materialize: identity on a result that several others may read.
    """

    sum_rows: Callable[..., list[jax.Array]]
    materialize: Callable[[jax.Array], jax.Array]


def _sum_rows_by_xla(
    terms: Callable[..., Sequence[jax.Array]],
    arrays: Sequence[jax.Array],
    vectors: Sequence[jax.Array] = (),
) -> list[jax.Array]:
    return [term.sum(axis=tuple(range(term.ndim - 1))) for term in terms(*arrays, *vectors)]


def _sum_rows_on_cpu(
    terms: Callable[..., Sequence[jax.Array]],
    arrays: Sequence[jax.Array],
    vectors: Sequence[jax.Array] = (),
) -> list[jax.Array]:
    """Sums in float32 or better; the arrays have one shape."""
    shapes = jax.eval_shape(terms, *arrays, *vectors)
    dtypes = [accumulation_dtype(shape.dtype) for shape in shapes]
    call = functools.partial(_sum_in_loop, terms, len(arrays), dtypes)
    partition_specs = [sharding.partition_spec(arrays[0])[-1:]] * len(shapes)
    totals: list[jax.Array] = sharding.auto_shard(call, partition_specs, *arrays, *vectors)
    return totals


def _sum_in_loop(
    terms: Callable[..., Sequence[jax.Array]],
    count: int,
    dtypes: Sequence[jnp.dtype],
    *operands: jax.Array,
) -> list[jax.Array]:
    """Sums by a loop over the rows of each lane; all lanes advance together.

    An array that is sharded over devices by its first axis has a lane on each, so that no row
    leaves its device.

    Args:
      count: how many of the operands are arrays; the others are vectors.
    """
    arrays, vectors = operands[:count], operands[count:]
    x = arrays[0]
    channels = x.shape[-1]
    lanes = 1 if x.ndim < 3 else cpu.count_lanes(x.shape[0])
    arrays = tuple(a.reshape(lanes, -1, channels) for a in arrays)
    rows = arrays[0].shape[1]
    step = _rows_per_step(rows, channels)
    stop = rows // step * step

    def terms_of_rows(start: cpu.UnsignedIndex, size: int) -> Iterator[jax.Array]:
        """The terms of some rows of all lanes."""
        corner, shape = (cpu.as_index(0), start, cpu.as_index(0)), (lanes, size, channels)
        values = terms(*(lax.dynamic_slice(a, corner, shape) for a in arrays), *vectors)
        return (value.astype(dtype) for value, dtype in zip(values, dtypes, strict=True))

    def unfinished(state: Any) -> Any:
        return state[0] < cpu.as_index(stop)

    def add(state: Any) -> Any:
        row, totals = state
        parts = terms_of_rows(row, step)
        return row + cpu.as_index(step), [t + part for t, part in zip(totals, parts, strict=True)]

    zeros = [cpu.vary_like(jnp.zeros((lanes, step, channels), dtype), x) for dtype in dtypes]
    totals = lax.while_loop(unfinished, add, (cpu.as_index(0), zeros))[1]
    totals = [t.sum((0, 1)) for t in totals]
    if stop == rows:
        return totals
    rest = terms_of_rows(cpu.as_index(stop), rows - stop)
    return [t + part.sum((0, 1)) for t, part in zip(totals, rest, strict=True)]


def _rows_per_step(rows: int, channels: int) -> int:
    """How many rows one step of the loop takes.

    A divisor of their number leaves no rest to be compiled apart, and XLA splits a sum of more than
    ROWS_PER_LOOP into two.
    """
    most = max(1, min(rows, ELEMENTS_PER_STEP // channels))
    if most <= 2 * ROWS_PER_LOOP:
        most = min(most, ROWS_PER_LOOP)
    divisors = (n for n in range(most, most // 2, -1) if rows % n == 0)
    return next(divisors, most)


XLA = Reductions(_sum_rows_by_xla, lambda x: x)
CPU = Reductions(_sum_rows_on_cpu, cpu.materialize)
