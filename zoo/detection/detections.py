"""What a detector finds in an image."""

from collections.abc import Sequence
from typing import Any, NamedTuple


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


def name_boxes(boxes: Any, scores: Any, labels: Sequence[str]) -> list[Detection]:
    """Detections of arrays: boxes [D, 4], scores [D], and as many labels."""
    return [
        Detection(label, float(score), (float(x1), float(y1), float(x2), float(y2)))
        for (x1, y1, x2, y2), score, label in zip(boxes, scores, labels, strict=True)
    ]
