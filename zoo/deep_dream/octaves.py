"""Dreams at several sizes of an image, from the smallest to the largest."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from PIL import Image

from zoo.deep_dream import tiles
from zoo.runtime.checks import check_count, check_number
from zoo.visualize.pictures import PictureError

# Less shows nothing, and a layer's output has a position or two.
MIN_SIDE = 32
# Differences of neighbouring pixels, which are from 0 to 1, below which they count as equal.
SMOOTH = 0.02


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a dream is computed.

    Args:
      octaves: the number of sizes, each larger than the one before by the factor `scale`.
      scale: above 1.
      steps: of gradient ascent in each octave.
      step_size: by how much a step changes a pixel on average, where black is 0 and white is 1.
      jitter: by how many pixels at most the image is moved at random at each step.
      total_variation: how strongly neighbouring pixels are drawn together, against a gradient whose
        mean absolute value is 1; 0 is not at all, 0.1 to 0.5 smooth.
      tile: the largest side of the tiles of which an image is computed, in pixels; memory grows
        with its square.

    Raises:
      ArgumentError: a value has another type or range.
      PictureError: `tile` is no multiple of 32.
    """

    octaves: int = 4
    scale: float = 1.4
    steps: int = 10
    step_size: float = 0.01
    jitter: int = 32
    total_variation: float = 0.0
    tile: int = 320

    def __post_init__(self) -> None:
        """Checks the values."""
        check_count("octaves", self.octaves, 1)
        check_count("steps", self.steps, 1)
        check_count("jitter", self.jitter, 0)
        check_number("scale", self.scale, 1, included=False)
        check_number("step_size", self.step_size, 0, included=False)
        check_number("total_variation", self.total_variation, 0)
        check_count("tile", self.tile, 2 * tiles.MULTIPLE)
        if self.tile % tiles.MULTIPLE:
            raise PictureError(f"tile must be a multiple of {tiles.MULTIPLE}, got {self.tile}")

    @property
    def total_steps(self) -> int:
        """The steps of all octaves."""
        return self.octaves * self.steps

    def fit_tile(self, height: int, width: int) -> int:
        """The side of the tiles for all octaves of an image of this size."""
        return tiles.fit_tile(self.tile, height, width, self.jitter)

    def sizes(self, height: int, width: int, min_side: int) -> list[tuple[int, int]]:
        """Height and width of each octave, from the smallest to the image's own.

        Raises:
          PictureError: the smallest has a side of fewer than `min_side` pixels.
        """
        least = [round(side * self.scale ** (1 - self.octaves)) for side in (width, height)]
        if min(least) < min_side:
            side = min(height, width)
            most = 1 + int(math.log(max(side / min_side, 1), self.scale))
            advice = f"octaves={most} or a larger image" if side >= min_side else "a larger one"
            raise PictureError(
                f"the image of {width}x{height} pixels is too small for octaves={self.octaves} "
                f"with scale={self.scale}: the smallest octave has {least[0]}x{least[1]} pixels, "
                f"and {min_side} a side are needed; take {advice}"
            )
        factors = [self.scale**-n for n in reversed(range(self.octaves))]
        return [(round(height * factor), round(width * factor)) for factor in factors]


def dream_octaves(
    image: np.ndarray,
    sizes: list[tuple[int, int]],
    ascend: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Dreams at each size in turn; what a size added is kept, as detail, at the next.

    The image itself is taken at each size from the original, so that it stays sharp.

    Args:
      image: [H, W, C], from 0 to 1.
      sizes: height and width of each octave, the smallest first.
      ascend: changes an image of any size.
    """
    detail = np.zeros((*sizes[0], image.shape[-1]), np.float32)
    changed = image
    for size in sizes:
        base = resize(image, *size)
        changed = ascend(np.clip(base + resize(detail, *size), 0, 1))
        detail = changed - base
    return changed


def ascend(
    gradient: tiles.Gradient,
    image: np.ndarray,
    settings: Settings,
    tile: int,
    random: np.random.Generator,
    advance: Callable[[], None],
) -> np.ndarray:
    """Steps of gradient ascent on an image [H, W, C] from 0 to 1.

    Args:
      gradient: of a tile.
      image: where it begins.
      settings: of the dream.
      tile: the side of the tiles.
      random: draws how the image is moved.
      advance: called after each step.

    Raises:
      FloatingPointError: the gradient is not finite.
    """
    for _ in range(settings.steps):
        down, right = (int(n) for n in random.integers(0, settings.jitter + 1, 2))
        _, found = tiles.tiled_gradient(gradient, image, tile, settings.jitter, (down, right))
        size = np.abs(found).mean()
        if not np.isfinite(size):
            raise FloatingPointError(
                "the gradient of the dream is not finite: the weights may be damaged"
            )
        direction = found / max(size, np.finfo(np.float32).tiny)
        if settings.total_variation:
            direction -= settings.total_variation * variation_gradient(image)
        image = np.clip(image + np.float32(settings.step_size) * direction, 0, 1)
        advance()
    return image


def variation_gradient(image: np.ndarray) -> np.ndarray:
    """The gradient of the total variation: of the sum of sqrt(dx² + dy² + SMOOTH²), [H, W, C].

    dx and dy are the differences of a pixel to its neighbours to the right and below.

    Rudin, Osher and Fatemi, "Nonlinear total variation based noise removal algorithms", 1992.
    """
    down = np.diff(image, axis=0, append=image[-1:])
    right = np.diff(image, axis=1, append=image[:, -1:])
    size = np.sqrt(down**2 + right**2 + SMOOTH**2)
    down, right = down / size, right / size
    zero_row, zero_column = np.zeros_like(image[:1]), np.zeros_like(image[:, :1])
    return -np.diff(down, axis=0, prepend=zero_row) - np.diff(right, axis=1, prepend=zero_column)


def resize(
    image: np.ndarray,
    height: int,
    width: int,
    box: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
    """An image [H, W, C] of floating point at another size, bicubic.

    Args:
      image: the image.
      height: of the result.
      width: of the result.
      box: the part of the image that is taken: left, top, right and bottom, in pixels.
    """
    if box is None and image.shape[:2] == (height, width):
        return image
    channels = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(image[..., n], np.float32)).resize(
                (width, height), Image.Resampling.BICUBIC, box
            )
        )
        for n in range(image.shape[-1])
    ]
    return np.stack(channels, axis=-1)
