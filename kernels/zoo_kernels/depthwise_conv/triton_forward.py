"""The kernel of depthwise convolution's forward pass and input gradient; see `stencil`.

A thread has one spatial tile of outputs and 16 bytes of channels, and walks over the pixels that
the tile needs: each is loaded once and multiplied by every tap that it meets there. Spatial tiles
are numbered over the whole batch, so that small images leave few threads idle.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from zoo_kernels.core import activations
from zoo_kernels.core.pallas.launch import launch_kernel, program_ids
from zoo_kernels.core.pallas.tiles import Tile, cdiv, choose_tile, load, loop, store
from zoo_kernels.core.window import Pair, Window
from zoo_kernels.depthwise_conv import stencil
from zoo_kernels.depthwise_conv.stencil import Axis


class ConvolutionConfig(NamedTuple):
    """Tuning of the kernel.

    Args:
      spatial_tiles: candidates, (rows, columns) of outputs of one thread; the first of those that
        load least is taken.
      tap_rows: how many rows of the kernel are unrolled; a loop goes over all rows
        by as many.
      warps: of a program.
    """

    spatial_tiles: tuple[Pair, ...]
    tap_rows: int
    warps: int


# (the kernel's larger side, up to; bytes of an element) → configuration. Chosen by what compiles
# without spilling, and by an older model of the time than `benchmarks.gpu_model` has. With float32
# memory sets the time. With half precision instructions do from 5x5 on, a third of them unpacking
# pixels and taps: so spatial tiles there are as wide as registers allow, which spreads that over
# more outputs. Above 9x9 multiplications outweigh memory, and what counts is that the loop holds
# little else.
CONFIGS = {
    (3, 4): ConvolutionConfig(((2, 4), (4, 2), (1, 7)), tap_rows=3, warps=4),
    (3, 2): ConvolutionConfig(((2, 2), (1, 4)), tap_rows=3, warps=4),
    (6, 4): ConvolutionConfig(((2, 4), (1, 8), (1, 7)), tap_rows=1, warps=4),
    (6, 2): ConvolutionConfig(((1, 14), (1, 7)), tap_rows=1, warps=4),
    (9, 2): ConvolutionConfig(((1, 14), (1, 7), (1, 8)), tap_rows=1, warps=4),
    (1024, 4): ConvolutionConfig(((1, 14), (1, 12), (1, 8)), tap_rows=1, warps=4),
    (1024, 2): ConvolutionConfig(((1, 7), (1, 8)), tap_rows=1, warps=4),
}

# Of pixels under a spatial tile's row, which the compiler likes to load all at once, and of outputs
# in a tile: with more of them, as strides make them, half precision has spilled registers.
MAX_PIXEL_COLUMNS, MAX_OUTPUTS = 24, 14

# See `choose_tile`: what the model of `benchmarks.gpu_model` says of 3x3 and 5x5 kernels.
ROW_COSTS = {16: 2.1, 32: 1.3, 64: 1.05}

MakeAxis = Callable[[Window, int, int, int], Axis]
Config = TypeVar("Config")


def find_config(configs: Mapping[Pair, Config], window: Window, dtype: Any) -> Config:
    """The configuration for a call, of a table like `CONFIGS`."""
    size = jnp.dtype(dtype).itemsize
    largest = max(window.kernel)
    return next(c for (side, bytes_), c in configs.items() if largest <= side and bytes_ == size)


class Tiling(NamedTuple):
    """How one call is cut into spatial tiles, and its taps into iterations of a loop.

    Args:
      rows, columns: the two axes.
      iterations: of the loop over the kernel's rows; a weight gradient has a group of programs for
        each instead.
      tap_rows: rows of taps in one iteration.
      warps: of a program.
    """

    rows: Axis
    columns: Axis
    iterations: int
    tap_rows: int
    warps: int

    @property
    def tiles_per_image(self) -> int:
        """How many spatial tiles cover the outputs of one image."""
        return self.rows.tiles * self.columns.tiles

    @property
    def loads(self) -> int:
        """How many pixels all threads of one image and channel load."""
        pixels = len(self.rows.uses) * len(self.columns.uses)
        return self.tiles_per_image * self.iterations * pixels


def choose_tiling(make_axis: MakeAxis, window: Window, dtype: Any) -> Tiling:
    """The tiling that loads least, of those whose registers suffice."""
    spatial_tiles, tap_rows, warps = find_config(CONFIGS, window, dtype)
    kh, kw = window.kernel
    # The phases of an input gradient need whole tiles of the strides, and whole periods of taps.
    multiples, period = (1, 1), 1
    if make_axis is stencil.input_grad_axis:
        multiples, period = window.strides, stencil.phase_period(window, 0)
    tap_rows = min(cdiv(tap_rows, period) * period, kh)
    tilings = []
    for height, width in spatial_tiles:
        rows = cdiv(height, multiples[0]) * multiples[0]
        columns = cdiv(height * width, rows * multiples[1]) * multiples[1]
        axes = make_axis(window, 0, rows, tap_rows), make_axis(window, 1, columns, kw)
        tilings.append(Tiling(*axes, cdiv(kh, tap_rows), tap_rows, warps))
    small = [tiling for tiling in tilings if _fits_registers(tiling)]
    return min(small or tilings, key=lambda tiling: tiling.loads)


def _fits_registers(tiling: Tiling) -> bool:
    outputs = tiling.rows.tile * tiling.columns.tile
    return len(tiling.columns.uses) <= MAX_PIXEL_COLUMNS and outputs <= MAX_OUTPUTS


class Operation(NamedTuple):
    """What one launch computes.

    Args:
      kernel_size: (rows, columns) of the convolution's kernel.
      in_channels, out_channels: of the pixels and of the outputs; one is a multiple of the other.
      act: an activation of the sum, to which a third operand, a bias, is added first; or None.
    """

    kernel_size: Pair
    in_channels: int
    out_channels: int
    act: str | None = None


def launch_convolution(
    tiling: Tiling, operation: Operation, name: str, x: jax.Array, w: jax.Array, *bias: jax.Array
) -> jax.Array:
    """Sums pixels times taps: x is [N, rows.pixels, columns.pixels, in_channels]."""
    channels = operation.out_channels
    tile = choose_tile(channels, x.dtype, tiling.warps, ROW_COSTS)
    count = x.shape[0] * tiling.tiles_per_image
    grid = cdiv(channels, tile.channels), cdiv(count, tile.rows)
    shape = x.shape[0], tiling.rows.outputs, tiling.columns.outputs, channels
    y = jax.ShapeDtypeStruct(shape, x.dtype)
    body = functools.partial(_convolution_kernel, tiling, operation, tile, count, grid)
    return launch_kernel(body, name, grid, tiling.warps, [y], x, w, *bias)[0]


class SpatialTile(NamedTuple):
    """The spatial tile of each thread of a program: arrays, with one such tile a row.

    Args:
      mask: whether there is such a spatial tile and such a channel.
      image: of the batch.
      row, column: in the image, counted in spatial tiles.
    """

    mask: jax.Array
    image: jax.Array
    row: jax.Array
    column: jax.Array


def locate_tiles(
    tiling: Tiling, index: jax.Array, count: int, channel: jax.Array, channels: int
) -> SpatialTile:
    """The spatial tiles with these indices, of `count`."""
    image = divide(index, tiling.tiles_per_image)
    index_in_image = index - image * tiling.tiles_per_image
    row = divide(index_in_image, tiling.columns.tiles)
    column = index_in_image - row * tiling.columns.tiles
    return SpatialTile((index < count) & (channel < channels), image, row, column)


def divide(a: jax.Array, b: int) -> jax.Array:
    """The quotient a // b; neither is negative."""
    return lax.div(a, jnp.full_like(a, b))


def output_offsets(
    tiling: Tiling, spatial_tile: SpatialTile, channel: jax.Array, channels: int
) -> dict[Pair, tuple[jax.Array, jax.Array]]:
    """(row, column) in the spatial tile → offset and mask of that output."""
    rows, columns = tiling.rows, tiling.columns
    first = (spatial_tile.image * rows.outputs + spatial_tile.row * rows.tile) * columns.outputs
    first = (first + spatial_tile.column * columns.tile) * channels + channel
    offsets = {}
    for a in range(rows.tile):
        for b in range(columns.tile):
            mask = spatial_tile.mask
            if rows.ragged:
                mask = mask & (spatial_tile.row * rows.tile + a < rows.outputs)
            if columns.ragged:
                mask = mask & (spatial_tile.column * columns.tile + b < columns.outputs)
            offsets[a, b] = first + (a * columns.outputs + b) * channels, mask
    return offsets


def make_pixel_loader(
    ref: Any,
    tiling: Tiling,
    spatial_tile: SpatialTile,
    channel: jax.Array,
    channels: int,
    column_shift: Any = None,
) -> Callable[[int, Any], Callable[[int], jax.Array]]:
    """Makes a function that loads pixels of each spatial tile, zero outside of the image.

    It is called with a row, and how many pixels further down that is, known at run time only; what
    it returns is called with a column. `column_shift` moves all columns to the right likewise.
    """
    rows, columns = tiling.rows, tiling.columns
    first_row = spatial_tile.row * rows.tile_stride + rows.start
    first_column = spatial_tile.column * columns.tile_stride + columns.start
    if column_shift is not None:
        first_column = first_column + column_shift
    first = (spatial_tile.image * rows.pixels + first_row) * columns.pixels + first_column
    first = first * channels + channel
    column_masks = {
        c: spatial_tile.mask
        if column_shift is None and columns.always_inside(c)
        else spatial_tile.mask & _inside(first_column + c, columns)
        for c in columns.uses
    }

    def select_row(row: int, row_shift: Any) -> Callable[[int], jax.Array]:
        offset = first + (row + row_shift) * (columns.pixels * channels)
        always_inside = tiling.iterations == 1 and rows.always_inside(row)
        row_mask = None if always_inside else _inside(first_row + (row + row_shift), rows)

        def load_pixel(column: int) -> jax.Array:
            mask = column_masks[column]
            mask = mask if row_mask is None else mask & row_mask
            return load(ref, offset + column * channels, mask)

        return load_pixel

    return select_row


def _inside(pixel: jax.Array, axis: Axis) -> jax.Array:
    """0 ≤ pixel < axis.pixels, by one comparison."""
    return pixel.astype(jnp.uint32) < jnp.uint32(axis.pixels)


def _convolution_kernel(
    tiling: Tiling, operation: Operation, tile: Tile, count: int, grid: Pair, *refs: Any
) -> None:
    """The kernel: pixels, taps and perhaps a bias → outputs, of `count` spatial tiles."""
    x_ref, w_ref, *bias_ref, y_ref = refs
    rows, columns = tiling.rows, tiling.columns
    kh, kw = operation.kernel_size
    in_channels, out_channels = operation.in_channels, operation.out_channels
    index, channel = tile.indices()
    channel_block, tile_block = program_ids(grid)
    index = index + tile_block * tile.rows
    channel = channel + channel_block * tile.channels
    spatial_tile = locate_tiles(tiling, index, count, channel, out_channels)
    # (pixels' channel, taps' channel) of the products that output channel c sums: with a multiplier
    # m, an x is read at c / m, and a dy at c · m + j for each j.
    if in_channels < out_channels:
        channel_pairs = [(divide(channel, out_channels // in_channels), channel)]
    else:
        multiplier = in_channels // out_channels
        channel_pairs = [(channel * multiplier + j,) * 2 for j in range(multiplier)]
    taps_of_row = kw * max(in_channels, out_channels)
    loaders = [
        make_pixel_loader(x_ref, tiling, spatial_tile, pixel_channel, in_channels)
        for pixel_channel, _ in channel_pairs
    ]
    channel_mask = channel < out_channels

    def step(iteration: Any, sums: dict[Pair, jax.Array]) -> dict[Pair, jax.Array]:
        sums = dict(sums)
        for (_, tap_channel), select_row in zip(channel_pairs, loaders, strict=True):

            @functools.cache
            def load_tap(i: int, j: int, tap_channel: jax.Array = tap_channel) -> jax.Array:
                row = iteration * tiling.tap_rows + i
                mask = channel_mask & (row < kh) if kh % tiling.tap_rows else channel_mask
                offset = tap_channel + row * taps_of_row
                return load(w_ref, offset + j * (taps_of_row // kw), mask)

            for r, row_uses in rows.uses.items():
                load_pixel = select_row(r, iteration * rows.tap_shift)
                for c, column_uses in columns.uses.items():
                    pixel = load_pixel(c)
                    for a, i in row_uses:
                        for b, j in column_uses:
                            sums[a, b] = sums[a, b] + pixel * load_tap(i, j)
        return sums

    zero = jnp.zeros((tile.rows, tile.channels), jnp.float32)
    sums = {(a, b): zero for a in range(rows.tile) for b in range(columns.tile)}
    sums = loop(tiling.iterations, step, sums)
    if operation.act is not None:
        bias = load(bias_ref[0], channel, channel_mask)
        value = activations.ACTIVATIONS[operation.act].value
        sums = {output: value(total + bias) for output, total in sums.items()}
    offsets = output_offsets(tiling, spatial_tile, channel, out_channels)
    for output, (offset, mask) in offsets.items():
        store(y_ref, offset, sums[output], mask)
