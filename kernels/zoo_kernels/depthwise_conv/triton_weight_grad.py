"""The kernel of depthwise convolution's weight gradient, which gives the same sums each time.

First every program walks over its part of the batch's spatial tiles and sums, for some taps, the
pixels times the gradients that meet there; it adds up the sums of its threads, and stores partial
sums of its own. Then XLA adds these. There are no atomic additions, whose order would change.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from zoo_kernels.core.pallas.launch import SHARDS, Output, launch_kernel, program_ids
from zoo_kernels.core.pallas.tiles import Tile, cdiv, choose_tile, load, store
from zoo_kernels.core.window import Pair, Window
from zoo_kernels.depthwise_conv import stencil
from zoo_kernels.depthwise_conv.triton_forward import (
    Tiling,
    divide,
    find_config,
    locate_tiles,
    make_pixel_loader,
    output_offsets,
)

# How many programs a launch has at least, where there is work for them: some for each of the 132
# multiprocessors of an H100. More make more partial sums to write and read.
MIN_PROGRAMS = 1056


class WeightGradConfig(NamedTuple):
    """Tuning of the kernel.

    Args:
      spatial_tiles: candidates, (rows, columns) of dy of one thread; the first that loads least is
        taken.
      max_taps: the most (rows, columns) of taps that one program sums; a larger kernel's taps are
        divided among several programs.
      warps: of a program.
    """

    spatial_tiles: tuple[Pair, ...]
    max_taps: Pair
    warps: int


# (the kernel's larger side, up to; bytes of an element) → configuration. A thread keeps a sum for
# each tap and each of its 4 or 8 channels in a register, of which it has 255 at most.
CONFIGS = {
    (3, 4): WeightGradConfig(((2, 4), (1, 8), (1, 7)), (3, 3), 4),
    (3, 2): WeightGradConfig(((2, 2),), (3, 3), 2),
    (6, 4): WeightGradConfig(((1, 8), (1, 7)), (3, 6), 4),
    (6, 2): WeightGradConfig(((1, 7), (1, 8), (1, 4)), (1, 6), 4),
    (9, 4): WeightGradConfig(((1, 8), (1, 7)), (2, 9), 4),
    (9, 2): WeightGradConfig(((1, 8), (1, 7)), (1, 9), 4),
    (1024, 4): WeightGradConfig(((1, 8), (1, 7)), (1, 31), 4),
    (1024, 2): WeightGradConfig(((1, 4), (1, 5)), (1, 16), 4),
}


# See `choose_tile`. A program waits for its loads in each step, so that narrow rows cost more than
# in the forward pass.
ROW_COSTS = {16: 4.5, 32: 2.2, 64: 1.3}


class WeightGradTiling(NamedTuple):
    """How one call is divided among programs.

    Args:
      spatial: the spatial tiles of dy, for one group of taps.
      groups: how many groups of taps there are, (rows, columns).
      taps: (rows, columns) of taps in one group.
      tile: what a program loads at once, one spatial tile a row.
      programs: for each shard, block of channels and group of taps.
      iterations: of a program, each over `tile.rows` spatial tiles.
      tile_count: spatial tiles of one shard.
    """

    spatial: Tiling
    groups: Pair
    taps: Pair
    tile: Tile
    programs: int
    iterations: int
    tile_count: int

    def partial_sums(self, shards: int, window: Window, channels: int) -> Output:
        """Each program's sums, [shards, programs, kh, kw, C]."""
        return Output(
            (shards, self.programs, *window.kernel, channels), jnp.float32, first_axis=SHARDS
        )


def choose_weight_grad_tiling(
    window: Window, dtype: Any, channels: int, shard_size: int
) -> WeightGradTiling:
    """The tiling that loads least, for shards of `shard_size` examples."""
    config = find_config(CONFIGS, window, dtype)
    (kh, kw), (max_rows, max_columns) = window.kernel, config.max_taps
    groups = cdiv(kh, max_rows), cdiv(kw, max_columns)
    taps = cdiv(kh, groups[0]), cdiv(kw, groups[1])
    tilings = [
        Tiling(
            stencil.forward_axis(window, 0, rows, taps[0]),
            stencil.forward_axis(window, 1, columns, taps[1]),
            groups[0],
            taps[0],
            config.warps,
        )
        for rows, columns in config.spatial_tiles
    ]
    spatial = min(tilings, key=lambda tiling: tiling.loads)
    tile = choose_tile(channels, dtype, config.warps, ROW_COSTS)
    tile_count = shard_size * spatial.tiles_per_image
    blocks = cdiv(tile_count, tile.rows)
    min_programs = cdiv(MIN_PROGRAMS, cdiv(channels, tile.channels) * math.prod(groups))
    iterations = cdiv(blocks, min(blocks, min_programs))
    programs = cdiv(blocks, iterations)
    return WeightGradTiling(spatial, groups, taps, tile, programs, iterations, tile_count)


def launch_weight_grad(
    tiling: WeightGradTiling, window: Window, shard_size: int, x: jax.Array, dy: jax.Array
) -> list[jax.Array]:
    """What each program sums, as `WeightGradTiling.partial_sums`."""
    channels = dy.shape[3]
    shards = x.shape[0] // shard_size
    # Groups of taps side by side, since they read the same.
    blocks = cdiv(channels, tiling.tile.channels)
    grid = math.prod(tiling.groups), blocks, tiling.programs * shards
    shape, dtype, _ = tiling.partial_sums(shards, window, channels)
    sums = jax.ShapeDtypeStruct(shape, dtype)
    body = functools.partial(_weight_grad_kernel, tiling, window, shard_size, channels, grid)
    return launch_kernel(body, "depthwise_weight_grad", grid, tiling.tile.warps, [sums], x, dy)


def _weight_grad_kernel(
    tiling: WeightGradTiling,
    window: Window,
    shard_size: int,
    channels: int,
    grid: tuple[int, ...],
    *refs: Any,
) -> None:
    """The kernel: pixels and gradients → partial sums."""
    x_ref, dy_ref, sums_ref = refs
    spatial, tile = tiling.spatial, tiling.tile
    rows, columns = spatial.rows, spatial.columns
    (kh, kw), (dh, dw) = window.kernel, window.dilation
    tile_row, channel = tile.indices()
    group, channel_block, program = program_ids(grid)
    channel = channel + channel_block * tile.channels
    shard = lax.div(program, jnp.int32(tiling.programs))
    group_row = lax.div(group, jnp.int32(tiling.groups[1]))
    first_tap_row = group_row * tiling.taps[0]
    first_tap_column = (group - group_row * tiling.groups[1]) * tiling.taps[1]
    pixel_channel = divide(channel, channels // window.channels)

    def step(iteration: Any, sums: list[jax.Array]) -> list[jax.Array]:
        block = (program - shard * tiling.programs) + iteration * tiling.programs
        spatial_tile = locate_tiles(
            spatial, block * tile.rows + tile_row, tiling.tile_count, channel, channels
        )
        spatial_tile = spatial_tile._replace(image=spatial_tile.image + shard * shard_size)
        column_shift = first_tap_column * dw if tiling.groups[1] > 1 else None
        select_row = make_pixel_loader(
            x_ref, spatial, spatial_tile, pixel_channel, window.channels, column_shift
        )
        dy = {
            output: load(dy_ref, offset, mask)
            for output, (offset, mask) in output_offsets(
                spatial, spatial_tile, channel, channels
            ).items()
        }
        sums = list(sums)
        for r, row_uses in rows.uses.items():
            load_pixel = select_row(r, first_tap_row * dh)
            for c, column_uses in columns.uses.items():
                pixel = load_pixel(c)
                for a, i in row_uses:
                    for b, j in column_uses:
                        tap = i * tiling.taps[1] + j
                        sums[tap] = sums[tap] + pixel * dy[a, b]
        return sums

    zeros = [jnp.zeros((tile.rows, tile.channels), jnp.float32)] * math.prod(tiling.taps)
    sums = lax.fori_loop(0, tiling.iterations, step, zeros)
    channel = channel_block * tile.channels + lax.broadcasted_iota(jnp.int32, (tile.channels,), 0)
    for tap, total in enumerate(sums):
        i, j = first_tap_row + tap // tiling.taps[1], first_tap_column + tap % tiling.taps[1]
        offset = ((program * kh + i) * kw + j) * channels + channel
        store(sums_ref, offset, total.sum(axis=0), (channel < channels) & (i < kh) & (j < kw))
