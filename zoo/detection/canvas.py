"""Photos of any size as batches of few shapes: resized, normalised, and padded."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zoo.detection.models.detector import Detector

# Widths over heights, or heights over widths, of what photos are padded to. Photos have few shapes,
# and each is a program that takes long to compile.
SHAPES = (1.0, 5 / 4, 4 / 3, 3 / 2, 16 / 9, 2.0, 3.0)


class Canvas(NamedTuple):
    """A photo as a detector sees it.

    Args:
      pixels: normalised [H, W, C], 0 behind the photo's last row and column.
      size: the height and width of the photo in it.
      original: the photo's own height and width.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    original: tuple[int, int]


def make_canvas(
    pixels: np.ndarray,
    detector: Detector,
    mean: np.ndarray,
    std: np.ndarray,
    canvas_size: tuple[int, int] | None = None,
) -> Canvas:
    """A photo resized and padded for a detector.

    Args:
      pixels: [H, W, C], from 0 to 255.
      detector: decides on the size.
      mean, std: by which pixels are normalised, in their range.
      canvas_size: the height and width to pad to; by default those of `choose_canvas`.
    """
    original = pixels.shape[0], pixels.shape[1]
    size = detector.resized_size(*original)
    height, width = canvas_size or choose_canvas(detector, size)
    canvas = np.zeros((height, width, pixels.shape[2]), np.float32)
    # By rows, as NumPy takes ten times as long for arrays whose last axis is of 3 numbers.
    rows = resize(pixels, size).reshape(size[0], -1)
    rows -= np.tile(mean, size[1])
    rows /= np.tile(std, size[1])
    canvas[: size[0], : size[1]] = rows.reshape(*size, -1)
    return Canvas(canvas, size, original)


def choose_canvas(detector: Detector, size: tuple[int, int]) -> tuple[int, int]:
    """The smallest of few heights and widths that an image fits into.

    They are what images of SHAPES take, in multiples of the detector's `divisor`; images of other
    shapes have some padding more. What is longer than all has a canvas of its own.
    """
    if detector.image_size is not None:
        return size
    fitting = [
        (height, width)
        for height, width in _list_canvases(detector)
        if height >= size[0] and width >= size[1]
    ]
    return min(fitting, key=lambda canvas: canvas[0] * canvas[1], default=_round_up(size, detector))


@functools.lru_cache(maxsize=64)
def _list_canvases(detector: Detector) -> list[tuple[int, int]]:
    canvases = []
    for shape in SHAPES:
        height, width = _round_up(detector.resized_size(10_000, round(10_000 * shape)), detector)
        canvases += [(height, width), (width, height)]
    return canvases


def _round_up(size: tuple[int, int], detector: Detector) -> tuple[int, int]:
    divisor = detector.divisor
    return -(-size[0] // divisor) * divisor, -(-size[1] // divisor) * divisor


def resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[H, W, C] → [height, width, C], float32, between the four nearest pixels.

    Without smoothing, as PyTorch's `interpolate`, with which the public weights were trained.
    """
    return _interpolate(_interpolate(pixels, size[0], 0), size[1], 1)


def _interpolate(pixels: np.ndarray, n: int, axis: int) -> np.ndarray:
    have = pixels.shape[axis]
    if n == have:
        return pixels.astype(np.float32)
    places = np.float32(have / n) * (np.arange(n, dtype=np.float32) + np.float32(0.5))
    places = np.maximum(places - np.float32(0.5), 0)
    before = np.minimum(places.astype(np.int64), have - 1)
    after = np.minimum(before + 1, have - 1)
    weight = places - before
    first, second = (np.take(pixels, i, axis).astype(np.float32) for i in (before, after))
    # By rows; see `make_canvas`.
    between, step = first.reshape(len(first), -1), second.reshape(len(first), -1)
    step -= between
    step *= weight[:, None] if axis == 0 else np.repeat(weight, pixels.shape[2])
    between += step
    return first


def unresize(boxes: np.ndarray, size: Sequence[int], original: Sequence[int]) -> np.ndarray:
    """Boxes [D, 4] of a photo that was resized, in pixels of the photo.

    Args:
      boxes: in pixels of the resized photo.
      size: its height and width.
      original: the photo's own.
    """
    height, width = np.array(original, np.float32) / np.array(size, np.float32)
    return boxes * np.array([width, height, width, height])
