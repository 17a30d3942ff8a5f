"""The kernel of depthwise convolution's forward pass and input gradient; see `stencil`.

A thread has one tile of outputs and 16 bytes of channels, and walks over the pixels that the tile
needs: each is loaded once and multiplied by every tap that it meets there. Tiles are numbered over
the whole batch, so that small images leave few threads idle.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from zoo_kernels.core import activations
from zoo_kernels.core.pallas.launch import position, run
from zoo_kernels.core.pallas.tiles import Tile, cdiv, load, store, tile
from zoo_kernels.core.window import Pair, Window
from zoo_kernels.depthwise_conv import stencil
from zoo_kernels.depthwise_conv.stencil import Axis


class Cut(NamedTuple):
    """How the work is cut up.

    Args:
      tiles: of outputs, (rows, columns), for one thread to choose from: the first of those that
        load least.
      taps: how many rows of the kernel are unrolled; a loop takes the next so many.
      warps: of a program.
    """

    tiles: tuple[Pair, ...]
    taps: int
    warps: int


# (the kernel's larger side, up to; bytes of an element) → Cut. Chosen by what compiles without
# spilling and by the model of `benchmarks.gpu_model`, not yet from timing. With float32 memory sets
# the time. With half precision instructions do from 5x5 on, a third of them unpacking pixels and
# taps: so tiles there are as wide as registers allow, which spreads that over more outputs. Above
# 9x9 multiplications outweigh memory, and what counts is that the loop holds little else.
TABLE = {
    (3, 4): Cut(((2, 4), (4, 2), (1, 7)), taps=3, warps=4),
    (3, 2): Cut(((2, 2), (1, 4)), taps=3, warps=4),
    (6, 4): Cut(((2, 4), (1, 8), (1, 7)), taps=1, warps=4),
    (6, 2): Cut(((1, 14), (1, 7)), taps=1, warps=4),
    (9, 2): Cut(((1, 14), (1, 7), (1, 8)), taps=1, warps=4),
    (1024, 4): Cut(((1, 14), (1, 12), (1, 8)), taps=1, warps=4),
    (1024, 2): Cut(((1, 7), (1, 8)), taps=1, warps=4),
}

# Of pixels under a tile's row, which the compiler likes to load all at once, and of outputs in a
# tile: with more of them, as strides make them, half precision has spilled registers.
MOST_COLUMNS, MOST_OUTPUTS = 24, 14

MakeAxis = Callable[[Window, int, int, int], Axis]


def cut(window: Window, dtype: Any) -> Cut:
    """The table's row for a call."""
    size = jnp.dtype(dtype).itemsize
    return next(c for (k, bytes_), c in TABLE.items() if max(window.kernel) <= k and bytes_ == size)


class Plan(NamedTuple):
    """One call's geometry: its two axes, in how many steps of how many rows of taps, and warps."""

    rows: Axis
    columns: Axis
    steps: int
    taps: int
    warps: int

    @property
    def loads(self) -> int:
        """How many pixels all threads of one image and channel load."""
        patches = self.rows.tiles * self.columns.tiles
        return patches * self.steps * len(self.rows.meet) * len(self.columns.meet)


def plan(make: MakeAxis, window: Window, dtype: Any) -> Plan:
    """Chooses what loads least."""
    tiles, taps, warps = cut(window, dtype)
    kh, kw = window.kernel
    # The phases of an input gradient need whole tiles of the strides, and whole periods of taps.
    sides, period = (1, 1), 1
    if make is stencil.input_grad:
        sides, period = window.strides, stencil.period(window, 0)
    taps = min(cdiv(taps, period) * period, kh)
    plans = []
    for area in tiles:
        rows = cdiv(area[0], sides[0]) * sides[0]
        columns = cdiv(area[0] * area[1], rows * sides[1]) * sides[1]
        made = make(window, 0, rows, taps), make(window, 1, columns, kw)
        plans.append(Plan(*made, cdiv(kh, taps), taps, warps))
    small = [p for p in plans if _small(p)]
    return min(small or plans, key=lambda p: p.loads)


def _small(plan: Plan) -> bool:
    outputs = plan.rows.tile * plan.columns.tile
    return len(plan.columns.meet) <= MOST_COLUMNS and outputs <= MOST_OUTPUTS


class Job(NamedTuple):
    """What one launch computes, besides its geometry.

    Args:
      kernel: (rows, columns) of the kernel.
      inputs, outputs: channels of the pixels and of the outputs; one is a multiple of the other.
      act: of the sum, to which a third operand, a bias, is added then.
    """

    kernel: Pair
    inputs: int
    outputs: int
    act: str | None = None


def convolve(
    plan: Plan, job: Job, name: str, x: jax.Array, w: jax.Array, *bias: jax.Array
) -> jax.Array:
    """Sums pixels times taps: x is [N, rows.pixels, columns.pixels, inputs]."""
    rows, columns = plan.rows, plan.columns
    t = tile(job.outputs, x.dtype, plan.warps)
    patches = x.shape[0] * rows.tiles * columns.tiles
    grid = cdiv(job.outputs, t.channels), cdiv(patches, t.rows)
    y = jax.ShapeDtypeStruct((x.shape[0], rows.outputs, columns.outputs, job.outputs), x.dtype)
    body = functools.partial(_convolve, plan, job, t, patches, grid)
    return run(body, name, grid, plan.warps, [y], x, w, *bias)[0]


class Patch(NamedTuple):
    """Which tiles of outputs a program's threads have, one a row of the arrays.

    Args:
      alive: whether there is such a tile and such a channel.
      image, row, column: of the tile, the latter two counted in tiles.
    """

    alive: jax.Array
    image: jax.Array
    row: jax.Array
    column: jax.Array


def locate(plan: Plan, number: jax.Array, count: Any, channel: jax.Array, channels: int) -> Patch:
    """The tiles with these numbers, of `count`."""
    of_image = plan.rows.tiles * plan.columns.tiles
    image = quotient(number, of_image)
    rest = number - image * of_image
    row = quotient(rest, plan.columns.tiles)
    column = rest - row * plan.columns.tiles
    return Patch((number < count) & (channel < channels), image, row, column)


def quotient(a: jax.Array, b: int) -> jax.Array:
    """The whole part of a / b, neither of them negative."""
    return lax.div(a, jnp.full_like(a, b))


def outputs(
    plan: Plan, patch: Patch, channel: jax.Array, channels: int
) -> dict[Pair, tuple[jax.Array, jax.Array]]:
    """(row, column) in the tile → the offset of that output, and whether there is such a one."""
    rows, columns = plan.rows, plan.columns
    at = (patch.image * rows.outputs + patch.row * rows.tile) * columns.outputs
    at = (at + patch.column * columns.tile) * channels + channel
    places = {}
    for a in range(rows.tile):
        for b in range(columns.tile):
            mask = patch.alive
            if rows.ragged:
                mask = mask & (patch.row * rows.tile + a < rows.outputs)
            if columns.ragged:
                mask = mask & (patch.column * columns.tile + b < columns.outputs)
            places[a, b] = at + (a * columns.outputs + b) * channels, mask
    return places


def reader(
    ref: Any, plan: Plan, patch: Patch, channel: jax.Array, channels: int, right: Any = None
) -> Callable[[int, Any], Callable[[int], jax.Array]]:
    """Reads the pixels of each tile: of one row, then of one column; zero outside of the image.

    A row may be moved down, and all may be moved to the right, by so many pixels as only run time
    tells.
    """
    rows, columns = plan.rows, plan.columns
    first_row = patch.row * rows.step + rows.start
    first_column = patch.column * columns.step + columns.start
    if right is not None:
        first_column = first_column + right
    at = (patch.image * rows.pixels + first_row) * columns.pixels + first_column
    at = at * channels + channel
    beside = {
        c: patch.alive
        if right is None and columns.inside(c)
        else patch.alive & _within(first_column + c, columns)
        for c in columns.meet
    }

    def of_row(row: int, moved: Any) -> Callable[[int], jax.Array]:
        offset = at + (row + moved) * (columns.pixels * channels)
        sure = plan.steps == 1 and rows.inside(row)
        inside = None if sure else _within(first_row + (row + moved), rows)

        def of_column(c: int) -> jax.Array:
            mask = beside[c] if inside is None else beside[c] & inside
            return load(ref, offset + c * channels, mask)

        return of_column

    return of_row


def _within(place: jax.Array, axis: Axis) -> jax.Array:
    """0 ≤ place < pixels, by one comparison."""
    return place.astype(jnp.uint32) < jnp.uint32(axis.pixels)


def _convolve(plan: Plan, job: Job, t: Tile, patches: int, grid: Pair, *refs: Any) -> None:
    """The kernel: pixels, taps and perhaps a bias → outputs."""
    x_ref, w_ref, *bias_ref, y_ref = refs
    rows, columns = plan.rows, plan.columns
    kh, kw = job.kernel
    number, channel = t.indices()
    channels, block = position(grid)
    number = number + block * t.rows
    channel = channel + channels * t.channels
    patch = locate(plan, number, patches, channel, job.outputs)
    # Output c sums over the inputs c · m + j of a dy, or is made from input c / m of an x.
    if job.inputs < job.outputs:
        sources = [(quotient(channel, job.outputs // job.inputs), channel)]
    else:
        several = job.inputs // job.outputs
        sources = [(channel * several + j,) * 2 for j in range(several)]
    taps_of_row = kw * max(job.inputs, job.outputs)
    readers = [reader(x_ref, plan, patch, source, job.inputs) for source, _ in sources]
    known = channel < job.outputs

    def step(number: Any, sums: dict[Pair, jax.Array]) -> dict[Pair, jax.Array]:
        sums = dict(sums)
        for (_, tap_channel), read in zip(sources, readers, strict=True):

            @functools.cache
            def tap(i: int, j: int, tap_channel: jax.Array = tap_channel) -> jax.Array:
                row = number * plan.taps + i
                mask = known & (row < kh) if kh % plan.taps else known
                place = tap_channel + row * taps_of_row
                return load(w_ref, place + j * (taps_of_row // kw), mask)

            for r, over in rows.meet.items():
                of_column = read(r, number * rows.chunk)
                for c, beside in columns.meet.items():
                    pixel = of_column(c)
                    for a, i in over:
                        for b, j in beside:
                            sums[a, b] = sums[a, b] + pixel * tap(i, j)
        return sums

    zero = jnp.zeros((t.rows, t.channels), jnp.float32)
    sums = {(a, b): zero for a in range(rows.tile) for b in range(columns.tile)}
    sums = step(0, sums) if plan.steps == 1 else lax.fori_loop(0, plan.steps, step, sums)
    if job.act is not None:
        bias = load(bias_ref[0], channel, known)
        value = activations.ACTIVATIONS[job.act].value
        sums = {place: value(total + bias) for place, total in sums.items()}
    for place, (offset, mask) in outputs(plan, patch, channel, job.outputs).items():
        store(y_ref, offset, sums[place], mask)
