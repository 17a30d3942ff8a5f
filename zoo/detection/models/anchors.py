"""Anchors: the boxes that detectors start from, at every place of their feature maps.

All are NumPy arrays, as they depend on shapes alone.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

GridSize = tuple[int, int]


@functools.lru_cache(maxsize=64)
def make_anchors(
    grid_sizes: tuple[GridSize, ...],
    image_size: GridSize,
    sizes: tuple[tuple[int, ...], ...],
    ratios: tuple[float, ...],
) -> tuple[np.ndarray, ...]:
    """Anchors of some sizes and shapes, centred on a grid of whole pixels (Ren et al. 2015).

    Args:
      grid_sizes: the height and width of each feature map.
      image_size: the height and width of the images.
      sizes: for each map, the square roots of the anchors' areas in pixels.
      ratios: the anchors' heights over their widths.

    Returns:
      For each map an array [height · width · len(ratios) · len(sizes of it), 4], rows of the grid
      first, then columns, ratios and sizes.
    """
    if len(sizes) != len(grid_sizes):
        raise ValueError(f"sizes must be for {len(grid_sizes)} feature maps, got {len(sizes)}")
    return tuple(
        _shift(_centred_boxes(sizes_here, ratios), grid, image_size)
        for grid, sizes_here in zip(grid_sizes, sizes, strict=True)
    )


def _centred_boxes(sizes: Sequence[int], ratios: Sequence[float]) -> np.ndarray:
    """Boxes around (0, 0) with whole numbers for edges: [len(ratios) · len(sizes), 4]."""
    heights = np.sqrt(np.asarray(ratios, np.float32))
    widths = np.float32(1) / heights
    h, w = (np.outer(shape, np.asarray(sizes, np.float32)).ravel() for shape in (heights, widths))
    return np.round(np.stack([-w, -h, w, h], 1) / 2)


def _shift(boxes: np.ndarray, grid: GridSize, image_size: GridSize) -> np.ndarray:
    """The boxes at each place of a grid."""
    stride_y, stride_x = (n // cells for n, cells in zip(image_size, grid, strict=True))
    y, x = np.meshgrid(*(np.arange(n) for n in grid), indexing="ij")
    places = np.stack([x * stride_x, y * stride_y, x * stride_x, y * stride_y], -1)
    return (places.reshape(-1, 1, 4) + boxes).reshape(-1, 4).astype(np.float32)


@functools.lru_cache(maxsize=64)
def make_default_boxes(
    grid_sizes: tuple[GridSize, ...],
    image_size: GridSize,
    ratios: tuple[tuple[float, ...], ...],
    scales: tuple[float, ...],
    steps: tuple[int, ...] | None = None,
) -> tuple[np.ndarray, ...]:
    """The default boxes of SSD (Liu et al. 2016, arXiv 1512.02325, section 2.2).

    Args:
      grid_sizes: the height and width of each feature map.
      image_size: the height and width of the images.
      ratios: for each map, the shapes beside the square: widths over heights, each upright too.
      scales: the boxes' sizes as shares of the image's, one for each map and one more.
      steps: for each map, the distance of neighbours in pixels; by default what fills the image.

    Returns:
      For each map an array [height · width · (2 + 2 · len(ratios of it)), 4].
    """
    levels = []
    for number, grid in enumerate(grid_sizes):
        scale = scales[number]
        larger = math.sqrt(scale * scales[number + 1])
        shapes = [(scale, scale), (larger, larger)]
        for ratio in ratios[number]:
            w, h = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
            shapes += [(w, h), (h, w)]
        extents = np.clip(np.asarray(shapes, np.float32), 0, 1)
        cells = grid if steps is None else tuple(n / steps[number] for n in image_size)
        y, x = (
            ((np.arange(n) + 0.5) / count).astype(np.float32)
            for n, count in zip(grid, cells, strict=True)
        )
        y, x = np.meshgrid(y, x, indexing="ij")
        centres = np.stack([x, y], -1).reshape(-1, 1, 2)
        pixels = np.asarray(image_size[::-1], np.float32)
        corners = [(centres + sign * 0.5 * extents) * pixels for sign in (-1, 1)]
        levels.append(np.concatenate(corners, -1).reshape(-1, 4).astype(np.float32))
    return tuple(levels)
