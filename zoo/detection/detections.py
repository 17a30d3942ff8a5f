"""What a detector finds in an image."""

from typing import NamedTuple


class Detection(NamedTuple):
    """An object that was found.

    Args:
      label: the name of its class.
      score: how sure the detector is, from 0 to 1.
      box: (x1, y1, x2, y2), its left, top, right and bottom edges in pixels of the image.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]
