"""Photos as arrays in their own aspect."""

import functools

import numpy as np
from PIL import Image

from zoo.inference.images import ImageError, ImageSource, load_image

# A square picture of it takes 800 MB.
MAX_SIDE = 1 << 14
# Noise repeats after so many pixels.
NOISE_PERIOD = 1024


def load_pixels(
    source: ImageSource, size: int | None = None, *, shorter: bool = False
) -> np.ndarray:
    """An image of any kind, [H, W, 3] in RGB, uint8.

    Args:
      source: the image.
      size: of its longer side, to which it is resized, in pixels; None keeps the size.
      shorter: means the shorter side instead.

    Raises:
      ImageError: it is no image, or would have a side of more than 16,384 pixels.
    """
    image = load_image(source)
    if size is not None:
        factor = size / (min(image.size) if shorter else max(image.size))
        width, height = (max(1, round(side * factor)) for side in image.size)
        if max(width, height) > MAX_SIDE:
            raise ImageError(
                f"an image of {image.width}x{image.height} pixels would become {width}x{height}; "
                f"at most {MAX_SIDE} a side are possible"
            )
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(image)


def to_float(
    photos: np.ndarray, noise: float = 0.0, corner: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """Photos [N, H, W, 3], uint8 → floating point where white is 1, with normal noise.

    The noise depends on nothing but the position, so that tiles of a photo fit together and even
    areas of a video stand still.

    Args:
      photos: of one size.
      noise: its standard deviation.
      corner: the position of the first pixel, in its photo.
    """
    x: np.ndarray = photos.astype(np.float32) / 255
    if noise:
        pattern = _draw_noise()
        for axis, start in enumerate(corner):
            pattern = _cut(pattern, axis, start % NOISE_PERIOD, photos.shape[1 + axis])
        x += np.float32(noise) * pattern
    return x


def _cut(pattern: np.ndarray, axis: int, start: int, length: int) -> np.ndarray:
    """A part of the pattern along an axis, which goes on from its end at its beginning."""
    if start + length <= NOISE_PERIOD:  # a view takes no time
        return pattern[(slice(None),) * axis + (slice(start, start + length),)]
    return np.take(pattern, np.arange(start, start + length), axis, mode="wrap")


@functools.cache
def _draw_noise() -> np.ndarray:
    shape = (NOISE_PERIOD, NOISE_PERIOD, 3)
    return np.random.default_rng(0).standard_normal(shape, np.float32)
