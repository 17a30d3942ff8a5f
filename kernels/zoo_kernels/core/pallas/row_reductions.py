"""Kernels that go once over arrays [..., C], elementwise, and sum over their rows on the way.

Memory sees rows of C channels. A program takes a tile of columns, 256 bytes wide where it can, and
goes down a share of the rows, some tiles at a time, so that enough loads are under way. Channel
counts that leave tiles ragged or loads unaligned are mended by folding: f rows of C channels are
one row of f·C columns in memory, so 16 rows of 100 float32 channels are exactly 25 tiles wide, and
4 rows of 33 can be loaded 16 bytes at a time. Column j is then of channel j mod C.
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zoo_kernels.core.pallas import launch
from zoo_kernels.core.pallas import tiles as tile

# How many row tiles a program loads at a time, by how many arrays it reads; 16 bytes of each tile
# go to a thread. An H100 at 3 TB/s and 0.7 µs needs 16 KiB under way on each multiprocessor; these
# have 48 KiB and more there. Twice as many would cost registers: so they compile to at most 80
# (float32) and 126 (half precision; 168 where loads are scalar), which leaves room for 8 and 4
# programs, and spill none. From compiling and this model alone, not yet from timing.
UNROLL = {1: 8, 2: 4, 3: 2}
WARPS = 4
# Programs in all: two waves and more of 8 on each of an H100's 132 multiprocessors. As many tiles
# of 1 KiB are all that partial sums take.
PROGRAMS = 2304
# A piece of a row touches a sector more of memory than it fills, if rows are not aligned.
SECTOR = 32
# What Pallas does not lower for Triton (erf's complement).
UNABLE = ("gelu_exact",)

Each = Callable[..., tuple[Sequence[jax.Array], Sequence[jax.Array]]]
Place = tuple[jax.Array, jax.Array]


class Plan(NamedTuple):
    """How programs share the rows of one lane of [..., C] arrays.

    Args:
      rows, columns: of the folded array.
      channels: C, so columns // channels rows are folded into one.
      tile: what is loaded at a time, `unroll` times; `steps` times that is a program's share.
      programs: how many share the rows.
    """

    rows: int
    columns: int
    channels: int
    tile: tile.Tile
    unroll: int
    steps: int
    programs: int

    @property
    def fold(self) -> int:
        """How many rows are one."""
        return self.columns // self.channels

    @property
    def share(self) -> int:
        """How many rows a program takes, the last one perhaps less."""
        return self.steps * self.unroll * self.tile.rows

    def partial(self, lanes: int) -> launch.Output:
        """A sum's shape when each program's share of it stands alone."""
        shape = (lanes, self.programs * self.fold, self.channels)
        return launch.Output(shape, jnp.float32, launch.LANES)

    def counts(self) -> np.ndarray[Any, Any]:
        """How many rows each entry of `partial` is of, [programs · fold, 1]."""
        starts = np.arange(self.programs) * self.share
        rows = np.minimum(self.rows - starts, self.share)
        return np.repeat(rows, self.fold)[:, None]


def plan(images: int, like: Any, reads: int) -> Plan:
    """The plan for lanes of so many images of arrays like that one, of which so many are read."""
    rows = images * math.prod(like.shape[1:-1])
    return _plan(rows, like.shape[-1], jnp.dtype(like.dtype).itemsize, UNROLL[reads])


@functools.cache
def _plan(rows: int, channels: int, size: int, unroll: int) -> Plan:
    """The fold and the tile that touch the fewest bytes a row; of equals the least folded."""
    vector, widest = tile.VECTOR // size, tile.WIDEST // size
    widths = [vector << i for i in range(widest.bit_length()) if vector << i <= widest]
    folds = [1 << i for i in range(widest.bit_length()) if rows % (1 << i) == 0]

    def touched(choice: tuple[int, int]) -> tuple[float, int]:
        fold, width = choice
        columns = fold * channels
        pieces = tile.cdiv(columns, width)
        slow = 1 if columns % vector == 0 else vector  # one load for each element
        return pieces * (width * size + SECTOR) * slow / fold, fold

    fold, width = min(((f, w) for f in folds for w in widths), key=touched)
    rows, columns = rows // fold, fold * channels
    own = tile.Tile(32 * WARPS * vector // width, width, WARPS)
    most = max(1, PROGRAMS // tile.cdiv(columns, width))
    steps = tile.cdiv(rows, most * unroll * own.rows)
    programs = tile.cdiv(rows, steps * unroll * own.rows)
    return Plan(rows, columns, channels, own, unroll, steps, programs)


class Program:
    """One program's way over a plan's rows: to be made inside a kernel."""

    def __init__(self, plan: Plan, lanes: int, backwards: bool = False) -> None:
        self.plan = plan
        block, place = launch.position(grid(plan, lanes))
        if backwards:
            place = lanes * plan.programs - 1 - place
        lane, share = lax.div(place, plan.programs), lax.rem(place, plan.programs)
        row, column = plan.tile.indices()
        first = block * plan.tile.channels
        self.row = row + share * plan.share
        self.column = column + first
        start = (lane * plan.rows + share * plan.share) * plan.columns + self.column
        self.first_row = start, self.column < plan.columns
        self.offset = start + row * plan.columns
        result = first + lax.broadcasted_iota(jnp.int32, (plan.tile.channels,), 0)
        self.result = place * plan.columns + result, result < plan.columns

    def places(self, step: Any) -> list[Place]:
        """The offsets and the mask of each row tile of a step."""
        plan = self.plan
        skipped = [(step * plan.unroll + u) * plan.tile.rows for u in range(plan.unroll)]
        inside = self.column < plan.columns
        return [
            (self.offset + skip * plan.columns, inside & (self.row + skip < plan.rows))
            for skip in skipped
        ]

    def seen(self, step: Any, least: int = 1) -> jax.Array:
        """How many rows each of a tile's elements has met when a step ends, at least that many."""
        plan = self.plan
        left = plan.rows - self.row + plan.tile.rows - 1
        left = lax.div(left, jnp.full_like(left, plan.tile.rows))
        return jnp.clip(left, least, (step + 1) * plan.unroll).astype(jnp.float32)

    def vector(self, ref: Any) -> jax.Array:
        """[C] as tiles are laid out, the same in each row."""
        plan = self.plan
        channel = self.column
        if plan.fold > 1:
            channel = lax.rem(channel, jnp.full_like(channel, plan.channels))
        return tile.load(ref, channel, self.column < plan.columns)

    def store(self, ref: Any, values: jax.Array) -> None:
        """Stores one value for each column into an array like `Plan.partial`."""
        offsets, mask = self.result
        tile.store(ref, offsets, values, mask)


def sweep(
    name: str,
    each: Each,
    images: int,
    streams: Sequence[jax.Array | None],
    vectors: Sequence[jax.Array | None],
    results: int = 0,
    sums: int = 0,
    backwards: bool = False,
) -> list[jax.Array]:
    """Launches one kernel that goes once over all streams.

    Args:
      name: what a profiler shows.
      each: called with a float32 tile of each stream and of each vector, None for None; returns
        tiles of the results and the terms of the sums.
      images: examples to a lane.
      streams: arrays [N, ..., C] that are read, alike; the first is there.
      vectors: arrays [C].
      results: how many arrays like the streams are written.
      sums: how many sums over the rows are taken.
      backwards: begins at the end. What the kernel before has read last is in the L2 cache still.

    Returns:
      The results, then the sums as `Plan.partial` says.
    """
    given = [array for array in (*streams, *vectors) if array is not None]
    x, reads = given[0], sum(array is not None for array in streams)
    own, lanes = plan(images, x, reads), x.shape[0] // images
    partial = own.partial(lanes)

    def body(*refs: Any) -> None:
        ins, outs = refs[:reads], refs[len(given) : len(given) + results]
        program = Program(own, lanes, backwards)
        constants = _where_there(vectors, map(program.vector, refs[reads : len(given)]))

        def step(i: Any, totals: Any) -> Any:
            places = program.places(i)
            loaded = [[tile.load(ref, *place) for ref in ins] for place in places]
            for (offsets, mask), tiles in zip(places, loaded, strict=True):
                written, terms = each(*_where_there(streams, tiles), *constants)
                for ref, values in zip(outs, written, strict=True):
                    tile.store(ref, offsets, values, mask)
                totals = [
                    t + jnp.where(mask, new, 0.0) for t, new in zip(totals, terms, strict=True)
                ]
            return totals

        totals = loop(own.steps, step, [jnp.zeros(own.tile[:2], jnp.float32)] * sums)
        for ref, total in zip(refs[len(given) + results :], totals, strict=True):
            program.store(ref, total.sum(axis=0))

    out = [jax.ShapeDtypeStruct(x.shape, x.dtype)] * results
    out += [jax.ShapeDtypeStruct(partial.shape, partial.dtype)] * sums
    return launch.run(body, name, grid(own, lanes), WARPS, out, *given)


def _where_there(arrays: Sequence[Any], values: Iterable[Any]) -> list[Any]:
    """The values in the places of the arrays that are not None."""
    left = iter(values)
    return [None if array is None else next(left) for array in arrays]


def shares(like: Any, lanes: int, reads: int, sums: int) -> list[launch.Output]:
    """The shapes of `sweep`'s sums over arrays like that one."""
    return [plan(like.shape[0] // lanes, like, reads).partial(lanes)] * sums


def grid(plan: Plan, lanes: int) -> tuple[int, int]:
    """Neighbours in a row run side by side."""
    return tile.cdiv(plan.columns, plan.tile.channels), lanes * plan.programs


def loop(steps: int, step: Callable[[Any, Any], Any], carry: Any) -> Any:
    """`lax.fori_loop` from 0; a single step is none."""
    return step(0, carry) if steps == 1 else lax.fori_loop(0, steps, step, carry)


def batched(spec: Any, *arrays: Any) -> list[bool]:
    """Which arrays have a batch: all but the vectors."""
    return [array.ndim > 1 for array in arrays if array is not None]


def like_first(spec: Any, lanes: int, x: Any, *_: Any) -> list[launch.Output]:
    """One result like the first array."""
    return [launch.Output(x.shape, x.dtype)]


def only(spec: Any, results: Sequence[jax.Array], *_: Any) -> jax.Array:
    """The one result."""
    return results[0]


def refuses(spec: Any, *arrays: Any) -> str | None:
    """Why these kernels cannot do a call, or None."""
    if spec.act in UNABLE:
        return f"Triton has no {spec.act}"
    return tile.refuses(*arrays)
