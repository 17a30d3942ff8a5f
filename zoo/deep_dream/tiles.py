"""The gradient of an image of any size, put together from tiles of one size.

All tiles have the same shape, so that one compiled program serves every size of image, and memory
does not grow with it. Neighbours overlap and are faded into each other, and the grid moves at
random from step to step, so that no seam can form.
"""

from collections.abc import Callable, Iterator

import numpy as np

# (tile [1, T, T, C]) → the objective, and its gradient [1, T, T, C].
Gradient = Callable[[np.ndarray], tuple[object, object]]

# Sides of tiles are multiples of it: few shapes to compile, and no stride leaves a rest.
MULTIPLE = 32


def fit_tile(limit: int, height: int, width: int, jitter: int) -> int:
    """The side of the tiles for an image: one tile if it is small, and at most `limit`."""
    needed = -(-(max(height, width) + jitter) // MULTIPLE) * MULTIPLE
    return min(limit, needed)


def place_tiles(length: int, tile: int, jitter: int, shift: int) -> list[int]:
    """Where the tiles begin that cover an axis; before 0 for what reaches over the border.

    Args:
      length: of the axis, in pixels.
      tile: the side of a tile.
      jitter: the largest shift.
      shift: from 0 to `jitter`, how far the grid is moved to the left.
    """
    step = tile - overlap_of(tile)
    count = 1 + max(0, -(-(length + jitter - tile) // step))
    spare = tile + (count - 1) * step - length - jitter
    return [n * step - spare // 2 - shift for n in range(count)]


def overlap_of(tile: int) -> int:
    """How many pixels neighbouring tiles have in common."""
    return tile // 4


def tiled_gradient(
    gradient: Gradient, image: np.ndarray, tile: int, jitter: int, shift: tuple[int, int]
) -> tuple[float, np.ndarray]:
    """The objective, as the mean over tiles, and its gradient by the image, [H, W, C].

    Args:
      gradient: of one tile.
      image: [H, W, C]; beyond its borders it is mirrored.
      tile: the side of a tile.
      jitter: the largest shift of the grid, in pixels.
      shift: of the grid, down and right, from 0 to `jitter`.
    """
    height, width, _ = image.shape
    rows, columns = (
        place_tiles(length, tile, jitter, moved)
        for length, moved in zip((height, width), shift, strict=True)
    )
    padding = [
        (-starts[0], max(0, starts[-1] + tile - length))
        for starts, length in ((rows, height), (columns, width))
    ]
    padded = np.pad(image, [*padding, (0, 0)], "symmetric")
    total = np.zeros_like(padded)
    weight = np.zeros((*padded.shape[:2], 1), np.float32)
    window = make_window(tile)
    values = []
    for y, x in _corners(rows, columns):
        part = np.s_[y : y + tile, x : x + tile]
        value, found = gradient(padded[part][None])
        total[part] += window * np.asarray(found, np.float32)[0]
        weight[part] += window
        values.append(value)
    inside = np.s_[padding[0][0] :, padding[1][0] :]
    blended = (total[inside] / weight[inside])[:height, :width]
    return float(np.mean([np.asarray(value) for value in values])), blended


def _corners(rows: list[int], columns: list[int]) -> Iterator[tuple[int, int]]:
    for y in rows:
        for x in columns:
            yield y - rows[0], x - columns[0]


def make_window(tile: int) -> np.ndarray:
    """The weight of a tile's pixels, [tile, tile, 1]: 1, and falling to 0 where tiles overlap."""
    overlap = overlap_of(tile)
    ramp = np.sin(np.pi / 2 * (np.arange(overlap) + 0.5) / overlap) ** 2
    line = np.concatenate([ramp, np.ones(tile - 2 * overlap), ramp[::-1]])
    return np.outer(line, line)[..., None].astype(np.float32)
