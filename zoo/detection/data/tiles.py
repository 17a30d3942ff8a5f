"""Large photos with many small objects, cut into tiles that a detector can take."""

from typing import Any

import numpy as np

from zoo.detection.data.dataset import DetectionDataset
from zoo.inference.images import load_image
from zoo.runtime.checks import ArgumentError, check_count, check_number


def cut_tiles(
    dataset: DetectionDataset, size: int, *, overlap: int = 0, min_visible: float = 0.3
) -> DetectionDataset:
    """Cuts each image into square tiles, from the upper left; the last ones end at its edges.

    Args:
      dataset: the images; the tiles are held in memory.
      size: height and width of the tiles in pixels; of an image that is smaller, a tile is all.
      overlap: how many pixels neighbouring tiles share, at least.
      min_visible: the share of a box's area that must be in a tile for the box, clipped, to count.

    Raises:
      ArgumentError: the overlap is not below the size, or a number is out of range.
    """
    check_count("size", size, 8)
    check_count("overlap", overlap, 0)
    check_number("min_visible", min_visible, 0, 1)
    if overlap >= size:
        raise ArgumentError(f"overlap must be below the size of {size} pixels, got {overlap}")
    columns: dict[str, Any] = {name: [] for name in ("images", "boxes", "labels", "crowd", "areas")}
    for image, boxes, labels, crowd, areas in map(dataset.__getitem__, range(len(dataset))):
        pixels = np.asarray(load_image(image))
        for top in _starts(pixels.shape[0], size, size - overlap):
            for left in _starts(pixels.shape[1], size, size - overlap):
                tile = pixels[top : top + size, left : left + size]
                clipped, share = _clip(boxes - np.array(2 * (left, top), np.float32), tile.shape)
                kept = (share > 0) & (share >= min_visible)
                columns["images"].append(tile)
                columns["boxes"].append(clipped[kept])
                columns["labels"].append(labels[kept])
                columns["crowd"].append(crowd[kept])
                columns["areas"].append(areas[kept] * share[kept])
    return DetectionDataset(classes=dataset.classes, **columns)


def _starts(length: int, size: int, step: int) -> list[int]:
    """Where tiles begin along a side, so that they cover it."""
    last = max(length - size, 0)
    return [*range(0, last, step), last]


def _clip(boxes: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes clipped to a tile, and the share of each one's area that remains."""
    clipped = np.clip(boxes, 0, np.tile([shape[1], shape[0]], 2)).astype(np.float32)
    areas = [np.prod(part[:, 2:] - part[:, :2], axis=1) for part in (clipped, boxes)]
    return clipped, areas[0] / areas[1]
