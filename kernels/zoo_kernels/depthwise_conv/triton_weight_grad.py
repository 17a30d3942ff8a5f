"""The kernel of depthwise convolution's weight gradient, whose sums are the same each time.

First every program walks over its share of the batch's tiles and sums, for some taps, the pixels
times the gradients that meet there; the sums of its threads are added up, and kept apart for each
program. Then XLA adds these. There are no atomic additions, whose order would change.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from zoo_kernels.core.pallas.launch import position, run
from zoo_kernels.core.pallas.tiles import Tile, cdiv, load, store, tile
from zoo_kernels.core.window import Pair, Window
from zoo_kernels.depthwise_conv import stencil
from zoo_kernels.depthwise_conv.triton_forward import Plan, locate, outputs, quotient, reader

# How many programs a launch has at least, where there is work for them: some for each of the 132
# multiprocessors of an H100. More make more partial sums to write and read.
PROGRAMS = 1056


class Cut(NamedTuple):
    """How the work is cut up.

    Args:
      tiles: of dy, (rows, columns), for one thread to choose from: the first that loads least.
      taps: the most (rows, columns) of taps that one program sums; others sum the next so many.
      warps: of a program.
    """

    tiles: tuple[Pair, ...]
    taps: Pair
    warps: int


# (the kernel's larger side, up to; bytes of an element) → Cut. A thread keeps a sum for each tap
# and each of its 4 or 8 channels in a register, of which it has 255 at most.
TABLE = {
    (3, 4): Cut(((2, 4), (1, 8), (1, 7)), (3, 3), 4),
    (3, 2): Cut(((1, 4), (1, 5)), (3, 3), 4),
    (6, 4): Cut(((1, 8), (1, 7)), (3, 6), 4),
    (6, 2): Cut(((1, 7), (1, 8), (1, 4)), (1, 6), 4),
    (9, 4): Cut(((1, 8), (1, 7)), (2, 9), 4),
    (9, 2): Cut(((1, 8), (1, 7)), (1, 9), 4),
    (1024, 4): Cut(((1, 8), (1, 7)), (1, 31), 4),
    (1024, 2): Cut(((1, 4), (1, 5)), (1, 16), 4),
}


class Share(NamedTuple):
    """How a launch is divided.

    Args:
      plan: the geometry for one group of taps.
      groups: of the taps' (rows, columns).
      taps: (rows, columns) of one group.
      tile: of the threads.
      programs: for each lane, channel block and group of taps.
      steps: blocks of tiles for each program.
      patches: tiles of one lane.
    """

    plan: Plan
    groups: Pair
    taps: Pair
    tile: Tile
    programs: int
    steps: int
    patches: int

    def shape(self, window: Window, channels: int) -> tuple[int, ...]:
        """Of one lane's sums."""
        return self.programs, *window.kernel, channels


def share(window: Window, dtype: Any, channels: int, images: int) -> Share:
    """Divides the work of lanes of so many images."""
    size = jnp.dtype(dtype).itemsize
    cut = next(c for (k, b), c in TABLE.items() if max(window.kernel) <= k and b == size)
    (kh, kw), (most_rows, most_columns) = window.kernel, cut.taps
    groups = cdiv(kh, most_rows), cdiv(kw, most_columns)
    taps = cdiv(kh, groups[0]), cdiv(kw, groups[1])
    plans = [
        Plan(
            stencil.forward(window, 0, rows, taps[0]),
            stencil.forward(window, 1, columns, taps[1]),
            groups[0],
            taps[0],
            cut.warps,
        )
        for rows, columns in cut.tiles
    ]
    plan = min(plans, key=lambda p: p.loads)
    t = tile(channels, dtype, cut.warps)
    patches = images * plan.rows.tiles * plan.columns.tiles
    blocks = cdiv(patches, t.rows)
    wanted = cdiv(PROGRAMS, cdiv(channels, t.channels) * math.prod(groups))
    steps = cdiv(blocks, min(blocks, wanted))
    return Share(plan, groups, taps, t, cdiv(blocks, steps), steps, patches)


def gradient(s: Share, window: Window, images: int, x: jax.Array, dy: jax.Array) -> list[jax.Array]:
    """What each program sums: [lanes, programs, kh, kw, C] in float32."""
    channels = dy.shape[3]
    lanes = x.shape[0] // images
    # Groups of taps side by side, since they read the same.
    grid = math.prod(s.groups), cdiv(channels, s.tile.channels), s.programs * lanes
    sums = jax.ShapeDtypeStruct((lanes, *s.shape(window, channels)), jnp.float32)
    body = functools.partial(_sum, s, window, images, channels, grid)
    return run(body, "depthwise_weight_grad", grid, s.tile.warps, [sums], x, dy)


def _sum(
    s: Share, window: Window, images: int, channels: int, grid: tuple[int, ...], *refs: Any
) -> None:
    """The kernel."""
    x_ref, dy_ref, sums_ref = refs
    plan, t = s.plan, s.tile
    rows, columns = plan.rows, plan.columns
    (kh, kw), (dh, dw) = window.kernel, window.dilation
    below, channel = t.indices()
    group, block, program = position(grid)
    channel = channel + block * t.channels
    lane = lax.div(program, jnp.int32(s.programs))
    top = lax.div(group, jnp.int32(s.groups[1]))
    tap_row, tap_column = top * s.taps[0], (group - top * s.groups[1]) * s.taps[1]
    source = quotient(channel, channels // window.channels)

    def step(number: Any, sums: list[jax.Array]) -> list[jax.Array]:
        number = (program - lane * s.programs) + number * s.programs
        patch = locate(plan, number * t.rows + below, s.patches, channel, channels)
        patch = patch._replace(image=patch.image + lane * images)
        right = tap_column * dw if s.groups[1] > 1 else None
        read = reader(x_ref, plan, patch, source, window.channels, right)
        dy = {
            place: load(dy_ref, offset, mask)
            for place, (offset, mask) in outputs(plan, patch, channel, channels).items()
        }
        sums = list(sums)
        for r, over in rows.meet.items():
            of_column = read(r, tap_row * dh)
            for c, beside in columns.meet.items():
                pixel = of_column(c)
                for a, i in over:
                    for b, j in beside:
                        tap = i * s.taps[1] + j
                        sums[tap] = sums[tap] + pixel * dy[a, b]
        return sums

    zeros = [jnp.zeros((t.rows, t.channels), jnp.float32)] * math.prod(s.taps)
    sums = lax.fori_loop(0, s.steps, step, zeros)
    channel = block * t.channels + lax.broadcasted_iota(jnp.int32, (t.channels,), 0)
    for tap, total in enumerate(sums):
        i, j = tap_row + tap // s.taps[1], tap_column + tap % s.taps[1]
        at = ((program * kh + i) * kw + j) * channels + channel
        store(sums_ref, at, total.sum(axis=0), (channel < channels) & (i < kh) & (j < kw))
