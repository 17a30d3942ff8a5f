"""Means of features inside boxes that lie in maps of different sizes, and their gradients."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Grid(NamedTuple):
    """How boxes are divided.

    Args:
      down, across: the numbers of bins.
      points: in a bin, down as well as across; 0 for one a pixel.
      aligned: whether boxes may be less than a pixel wide or high.
      rows: of the table.
    """

    down: int
    across: int
    points: int
    aligned: bool
    rows: int


class Regions(NamedTuple):
    """Boxes in maps that lie one after the other in a table of pixels.

    Args:
      boxes: in pixels of their map, where the centre of the first pixel is at 0, [R, 4].
      heights, widths: of their map [R].
      offsets: the row of the table where their map begins [R].
    """

    boxes: jax.Array
    heights: jax.Array
    widths: jax.Array
    offsets: jax.Array


# Pooling is linear in the table, and its transpose adds gradients to the rows that were read: each
# is the other's derivative. Both go over a few boxes at a time, which stay in the cache: on two
# cores, 1,000 boxes of 7 x 7 bins in 256 channels take 55 ms, and 75 ms all at once; where all
# pixels of a box are gathered and contracted with two small matrices, 460 ms.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def pool(grid: Grid, table: jax.Array, regions: Regions) -> jax.Array:
    """The mean features of bins, [rows, C] → [R, bins down, bins across, C].

    Args:
      table: the pixels of all maps.
      regions: the boxes.
    """
    dtype = jnp.promote_types(table.dtype, jnp.float32)

    def pool_chunk(regions: Regions) -> jax.Array:
        def add_point(number: jax.Array, total: jax.Array) -> jax.Array:
            for rows, weights in _neighbours(grid, regions, number):
                pixels = table.at[rows].get(mode="promise_in_bounds")
                total = total + pixels * weights[..., None].astype(dtype)
            return total

        shape = (len(regions.boxes), grid.down, grid.across, table.shape[1])
        count = _point_count(grid, regions)
        return lax.fori_loop(0, count, add_point, jnp.zeros(shape, dtype)).astype(table.dtype)

    pooled = lax.map(pool_chunk, _chunks(regions))
    return pooled.reshape(-1, *pooled.shape[2:])[: len(regions.boxes)]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def spread(grid: Grid, gradient: jax.Array, regions: Regions) -> jax.Array:
    """The transpose of `pool`: [R, bins down, bins across, C] → [rows, C]."""
    dtype = jnp.promote_types(gradient.dtype, jnp.float32)
    channels = gradient.shape[-1]

    def spread_chunk(table: jax.Array, chunk: tuple[jax.Array, Regions]) -> tuple[jax.Array, None]:
        gradient, regions = chunk

        def add_point(number: jax.Array, table: jax.Array) -> jax.Array:
            for rows, weights in _neighbours(grid, regions, number):
                values = gradient * weights[..., None].astype(dtype)
                table = table.at[rows.reshape(-1)].add(
                    values.reshape(-1, channels), mode="promise_in_bounds"
                )
            return table

        return lax.fori_loop(0, _point_count(grid, regions), add_point, table), None

    zeros = jnp.zeros((grid.rows, channels), dtype)
    table, _ = lax.scan(spread_chunk, zeros, _chunks((gradient, regions)))
    return table.astype(gradient.dtype)


pool.defvjp(
    lambda grid, table, regions: (pool(grid, table, regions), regions),
    lambda grid, regions, gradient: (spread(grid, gradient, regions), None),
)
spread.defvjp(
    lambda grid, gradient, regions: (spread(grid, gradient, regions), regions),
    lambda grid, regions, table: (pool(grid, table, regions), None),
)


def _chunks(tree: Any) -> Any:
    """Arrays [R, …] as [chunks, boxes of a chunk, …]; boxes of zeros fill the last one."""
    count = len(jax.tree.leaves(tree)[0])
    # Without a rest, the result need not be cut, which would copy it.
    size = max((size for size in range(16, 65) if count % size == 0), default=32)

    def cut(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, ((0, -count % size),) + ((0, 0),) * (x.ndim - 1))
        return x.reshape(-1, size, *x.shape[1:])

    return jax.tree.map(cut, tree)


def _extents(grid: Grid, regions: Regions) -> tuple[jax.Array, jax.Array]:
    """The sizes of boxes, [R, 2], across and down, and the numbers of points in their bins."""
    size = regions.boxes[:, 2:] - regions.boxes[:, :2]
    if not grid.aligned:
        size = jnp.maximum(size, 1)
    if grid.points:
        return size, jnp.full(size.shape, grid.points)
    points = jnp.ceil(size / jnp.asarray((grid.across, grid.down), size.dtype))
    return size, jnp.where(jnp.isfinite(points), jnp.maximum(points, 0), 0).astype(jnp.int32)


def _point_count(grid: Grid, regions: Regions) -> int | jax.Array:
    """How many points the bin of any box has at most, down times across."""
    if grid.points:
        return grid.points**2
    return _extents(grid, regions)[1].max(axis=0).prod()


def _neighbours(
    grid: Grid, regions: Regions, number: jax.Array
) -> Iterator[tuple[jax.Array, jax.Array]]:
    """Rows of the table and weights of the four pixels around one point of each bin.

    Args:
      number: of the point in the bin, row by row of the box that has most.

    Yields:
      Rows and weights, [R, bins down, bins across].
    """
    size, points = _extents(grid, regions)
    across = jnp.maximum(points[:, 0].max(), 1)
    start = regions.boxes[:, :2]
    down_pixels = _interpolate(
        start[:, 1], size[:, 1], grid.down, points[:, 1], number // across, regions.heights
    )
    across_pixels = _interpolate(
        start[:, 0], size[:, 0], grid.across, points[:, 0], number % across, regions.widths
    )
    for y, y_weight in down_pixels:
        for x, x_weight in across_pixels:
            rows = y[:, :, None] * regions.widths[:, None, None] + x[:, None, :]
            yield rows + regions.offsets[:, None, None], y_weight[:, :, None] * x_weight[:, None, :]


def _interpolate(
    start: jax.Array,
    size: jax.Array,
    bins: int,
    points: jax.Array,
    number: jax.Array,
    limit: jax.Array,
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """The pixels before and after a point of each bin along one axis, and their weights [R, bins].

    Args:
      start, size: of boxes along the axis [R].
      bins: their number.
      points: their number in a bin [R].
      number: which of them; where a box has fewer, the weights are 0.
      limit: the number of pixels of the map [R].
    """
    start, size, points, limit = (x[:, None] for x in (start, size, points, limit))
    width = size / bins
    places = jnp.maximum(points, 1).astype(size.dtype)
    point = start + jnp.arange(bins) * width + (number + 0.5) * width / places
    inside = (point >= -1) & (point <= limit) & (number < points)
    point = jnp.clip(jnp.where(inside, point, 0), 0, limit - 1)
    before = jnp.floor(point)
    fraction = point - before
    weight = inside / places
    first = before.astype(jnp.int32)
    second = jnp.minimum(first + 1, limit - 1)
    return (first, (1 - fraction) * weight), (second, fraction * weight)
