"""Stylises photos of any size: what is too large at once in tiles, without seams.

The norms of the network see whole photos, so that tiles on their own would differ in colour. All
tiles are normalised by the same statistics, those of small parts from all over the photo that are
computed together; and they overlap by more than the network sees around a pixel.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

import zoo_kernels as kernels
from zoo.style.network import RADIUS, STRIDE, StyleNetwork
from zoo.style.pixels import to_float
from zoo.style.styles import Styles
from zoo.visualize.pictures import to_uint8

# Sides of photos are filled up to a multiple of it, so that few shapes are compiled.
MULTIPLE = 32
MARGIN = -(-RADIUS // STRIDE) * STRIDE
# The parts whose statistics stand for the photo: so many a side, which together are one tile.
PARTS = 4


def stylize(styles: Styles, photos: np.ndarray, weights: np.ndarray, tile: int) -> np.ndarray:
    """Photos of one size, [N, H, W, 3] uint8 → pictures like them.

    Args:
      styles: the network.
      photos: any number; in tiles they are computed one by one.
      weights: of the styles [styles].
      tile: the side of the largest photo that is computed at once, a multiple of 32.
    """
    height, width = photos.shape[1:3]
    if height * width > tile**2:
        return np.stack([_stylize_tiles(styles, photo, weights, tile) for photo in photos])
    filled = _fill(photos, MULTIPLE)
    x = to_float(filled, styles.noise)
    pictures = styles(x, np.broadcast_to(weights, (len(photos), len(weights))))
    return to_uint8(np.asarray(pictures)[:, :height, :width])


def _stylize_tiles(styles: Styles, photo: np.ndarray, weights: np.ndarray, tile: int) -> np.ndarray:
    height, width, _ = photo.shape
    filled = _fill(photo[None], STRIDE)[0]
    statistics = measure_statistics(styles, filled, weights, tile)
    picture = np.empty_like(filled)
    run = _compile_fixed(styles.network)
    for outer, inner, inside in place_tiles(filled.shape[:2], tile):
        x = to_float(filled[outer][None], styles.noise, (outer[0].start, outer[1].start))
        result = run(styles.variables, statistics, x, weights[None])
        picture[inner] = to_uint8(np.asarray(result)[0][inside])
    return picture[:height, :width]


def measure_statistics(
    styles: Styles, photo: np.ndarray, weights: np.ndarray, tile: int
) -> dict[str, Any]:
    """The mean and variance of each norm's input over parts from all over a photo [H, W, 3]."""
    sides = [min(length, tile // PARTS // STRIDE * STRIDE) for length in photo.shape[:2]]
    starts = [
        np.linspace(0, length - side, PARTS).astype(int)
        for length, side in zip(photo.shape[:2], sides, strict=True)
    ]
    parts = [
        to_float(photo[None, y : y + sides[0], x : x + sides[1]], styles.noise, (y, x))
        for y in starts[0]
        for x in starts[1]
    ]
    repeated = np.broadcast_to(weights, (len(parts), len(weights)))
    statistics: dict[str, Any] = _compile_measuring(styles.network)(
        styles.variables, np.concatenate(parts), repeated
    )
    return statistics


Slices = tuple[slice, slice]


def place_tiles(size: tuple[int, int], tile: int) -> Iterator[tuple[Slices, Slices, Slices]]:
    """Yields the tiles that cover a photo.

    Args:
      size: height and width of the photo, multiples of 4.
      tile: the side of a tile, a multiple of 4.

    Yields:
      Where a tile lies in the photo, which part of the photo it gives, and where in the tile that
      part lies.
    """
    for rows in _place_along_axis(size[0], tile):
        for columns in _place_along_axis(size[1], tile):
            outer, inner, inside = zip(rows, columns, strict=True)
            yield outer, inner, inside


def _place_along_axis(length: int, tile: int) -> Iterator[tuple[slice, slice, slice]]:
    """As `place_tiles`, along one axis. At the photo's borders a tile gives all that it has."""
    if length <= tile:
        yield slice(0, length), slice(0, length), slice(0, length)
        return
    done = 0
    while done < length:
        start = min(max(done - MARGIN, 0), length - tile)
        end = length if start + tile == length else start + tile - MARGIN
        yield slice(start, start + tile), slice(done, end), slice(done - start, end - start)
        done = end


def _fill(photos: np.ndarray, multiple: int) -> np.ndarray:
    """[N, H, W, 3], mirrored below and to the right up to multiples of a number."""
    more = [(0, -length % multiple) for length in photos.shape[1:3]]
    return np.pad(photos, [(0, 0), *more, (0, 0)], "symmetric")


@functools.lru_cache(maxsize=16)
def _compile_fixed(network: StyleNetwork) -> Callable[..., jax.Array]:
    def run(variables: Any, statistics: Any, x: jax.Array, weights: jax.Array) -> Any:
        return network.apply({**variables, **statistics}, x, weights)

    return kernels.jit(run)


@functools.lru_cache(maxsize=16)
def _compile_measuring(network: StyleNetwork) -> Callable[..., Any]:
    def run(variables: Any, x: jax.Array, weights: jax.Array) -> Any:
        _, statistics = network.apply(variables, x, weights, mutable=["statistics"])
        return statistics

    return kernels.jit(run)
