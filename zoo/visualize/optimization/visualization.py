"""Generated pictures, and checks of what they are generated from."""

import dataclasses
from typing import Any

import numpy as np

from zoo.inference.trained import Trained
from zoo.runtime.checks import check_count
from zoo.visualize.pictures import Gallery, PictureError, to_uint8

MIN_SIZE = 16


@dataclasses.dataclass(frozen=True, eq=False)
class Visualization(Gallery):
    """Generated pictures, and how their objectives rose.

    Args:
      values: of the objectives by step, [N, steps], for the moved pictures.
    """

    values: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0)))

    def __repr__(self) -> str:
        return f"Visualization({', '.join(self.titles)}, pixels {list(self.pixels.shape)})"


def show(pixels: np.ndarray) -> np.ndarray:
    """Pixels in RGB or grey from 0 to 1, [N, H, W, C] → pictures [N, H, W, 3], uint8."""
    return to_uint8(pixels if pixels.shape[-1] == 3 else np.repeat(pixels, 3, axis=-1))


def check_size(trained: Trained, size: Any) -> int:
    """A picture's size, for a model that takes pictures.

    Raises:
      ArgumentError: it is no integer, or too small.
      PictureError: the model takes bands that are no colours.
    """
    if trained.info.preprocessing.channels == "bands":
        raise PictureError(
            f"{trained.info.model} takes {trained.channels} bands, of which no picture can be "
            f"generated; a model of RGB, BGR or grey images is needed"
        )
    return check_count("size", size, max(MIN_SIZE, trained.model.min_size))
