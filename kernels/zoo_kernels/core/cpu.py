"""What XLA's compiler for CPUs has to be led to: sums in one pass over memory, values kept.

Its own reductions over all but the last axis come after a pass that writes what is to be summed,
one for each sum. A loop that carries its totals reads its operands once for all of them, a few rows
at a time, and computes the terms while they are in registers.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zoo_kernels.core import dispatch, sharding
from zoo_kernels.core.linear import wide

# Rows and images are counted by unsigned integers: a signed index that is only known at run time
# would be wrapped where negative, for each slice anew.
Index = Any

# Elements in the rows of one step: a total of so many float32 fits a core's first cache.
AT_ONCE = 8192
# Rows that XLA's CPU compiler sums in one loop.
AT_A_TIME = 32


def sums(
    terms: Callable[..., Sequence[jax.Array]],
    arrays: Sequence[jax.Array],
    vectors: Sequence[jax.Array] = (),
) -> list[jax.Array]:
    """Sums what `terms` makes of arrays' elements over all axes but the last.

    Args:
      terms: elementwise; takes rows [..., C] of each array and the vectors, gives arrays [..., C].
      arrays: [..., C], all of one shape.
      vectors: [C], or what broadcasts against the rows.

    Returns:
      A total [C] for each of the terms, in float32 or better.
    """
    shapes = jax.eval_shape(terms, *arrays, *vectors)
    dtypes = [wide(shape.dtype) for shape in shapes]
    call = functools.partial(_walk, terms, len(arrays), dtypes)
    partition_specs = [sharding.partition_spec(arrays[0])[-1:]] * len(shapes)
    totals: list[jax.Array] = sharding.auto_shard(call, partition_specs, *arrays, *vectors)
    return totals


def _walk(
    terms: Callable[..., Sequence[jax.Array]],
    count: int,
    dtypes: Sequence[jnp.dtype],
    *operands: jax.Array,
) -> list[jax.Array]:
    """The loop runs over the rows of each lane, and all lanes advance together.

    An array that is sharded over devices by its first axis has a lane on each, so that no row
    leaves its device.
    """
    arrays, vectors = operands[:count], operands[count:]
    x = arrays[0]
    channels = x.shape[-1]
    lanes = 1 if x.ndim < 3 else math.gcd(x.shape[0], devices())
    arrays = tuple(a.reshape(lanes, -1, channels) for a in arrays)
    rows = arrays[0].shape[1]
    at_once = _rows_at_once(rows, channels)
    whole = rows // at_once * at_once

    def take(start: Index, size: int) -> Iterator[jax.Array]:
        """The terms of some rows of all lanes."""
        place, shape = (index(0), start, index(0)), (lanes, size, channels)
        made = terms(*(lax.dynamic_slice(a, place, shape) for a in arrays), *vectors)
        return (term.astype(dtype) for term, dtype in zip(made, dtypes, strict=True))

    def more(state: Any) -> Any:
        return state[0] < index(whole)

    def add(state: Any) -> Any:
        row, totals = state
        parts = take(row, at_once)
        return row + index(at_once), [t + part for t, part in zip(totals, parts, strict=True)]

    zeros = [varying(jnp.zeros((lanes, at_once, channels), dtype), x) for dtype in dtypes]
    totals = lax.while_loop(more, add, (index(0), zeros))[1]
    totals = [t.sum((0, 1)) for t in totals]
    if whole == rows:
        return totals
    rest = take(index(whole), rows - whole)
    return [t + part.sum((0, 1)) for t, part in zip(totals, rest, strict=True)]


def _rows_at_once(rows: int, channels: int) -> int:
    """How many rows one step of the loop takes.

    A divisor of their number leaves no rest to be compiled apart, and XLA splits a sum of more than
    AT_A_TIME into two.
    """
    most = max(1, min(rows, AT_ONCE // channels))
    if most <= 2 * AT_A_TIME:
        most = min(most, AT_A_TIME)
    divisors = (n for n in range(most, most // 2, -1) if rows % n == 0)
    return next(divisors, most)


def once(x: jax.Array) -> jax.Array:
    """x, computed once and kept.

    XLA otherwise computes an elementwise array again inside everything that takes it: a residual
    network's activation, from as many arrays as its stage has blocks, in the order of a transposed
    copy's columns.
    """
    return _once(None, x)


def _kept(_: None, x: jax.Array) -> jax.Array:
    if jax.__version_info__ >= (0, 11):
        return lax.optimization_barrier(x)
    # jax 0.10's compiler for CPUs removes barriers before it fuses. What a loop may have changed
    # it must keep; this one never runs, which the compiler cannot know.
    [never] = sharding.auto_shard(_never, [()], x)
    return lax.while_loop(lambda s: s[0] > 1, lambda s: (s[0] - 1, s[1] + 1), (never, x))[1]


# Its gradient is that of the identity: there is none of a loop.
_once = dispatch.with_gradient(_kept, lambda _, x: x)


def padded(x: jax.Array, padding: Sequence[Sequence[int]], outside: float = 0) -> jax.Array:
    """Pads [N, H, W, …] with what lies outside, or crops it where negative, once.

    The barrier keeps XLA from doing it again in everything that takes it.
    """
    config = [(0, 0, 0), *((low, high, 0) for low, high in padding), *[(0, 0, 0)] * (x.ndim - 3)]
    if not any(low or high for low, high, _ in config):
        return x
    return lax.optimization_barrier(lax.pad(x, jnp.asarray(outside, x.dtype), config))


def _never(x: jax.Array) -> list[jax.Array]:
    """A number that is at most 1, whatever x is."""
    corner = lax.slice(x, (0,) * x.ndim, (1,) * x.ndim).reshape(())
    return [(corner != corner).astype(jnp.int32)]


def devices() -> int:
    """How many CPU devices an array may be sharded over."""
    try:
        return jax.device_count("cpu")
    except RuntimeError:  # JAX_PLATFORMS leaves the CPU out
        return 1


def index(value: int) -> Index:
    """A number of rows."""
    return np.uint32(value)


def varying(start: Any, like: jax.Array) -> jax.Array:
    """What a loop starts from, varying over the mesh axes of what the loop adds to it."""
    return sharding.match_varying(jnp.asarray(start), like)[0]


class How(NamedTuple):
    """What a pass does differently on a CPU: see `sums` and `once`."""

    sums: Callable[..., list[jax.Array]]
    once: Callable[[jax.Array], jax.Array]


def _reductions(
    terms: Callable[..., Sequence[jax.Array]],
    arrays: Sequence[jax.Array],
    vectors: Sequence[jax.Array] = (),
) -> list[jax.Array]:
    return [term.sum(axis=tuple(range(term.ndim - 1))) for term in terms(*arrays, *vectors)]


def by_platform(pass_: Callable[..., Any]) -> Callable[..., Any]:
    """`pass_(how, static, *arrays)` with the way that suits the platform.

    Its own gradient is that of plain reductions: a loop's would keep what each of its steps read.
    """
    usual = functools.partial(pass_, How(_reductions, lambda x: x))
    on_cpu = dispatch.with_gradient(functools.partial(pass_, How(sums, once)), usual)

    def run(spec: Any, *arrays: Any) -> Any:
        return dispatch.by_platform(
            *arrays,
            cpu=functools.partial(on_cpu, spec),
            default=functools.partial(usual, spec),
        )

    return run
