"""Makes detections of what detectors from elsewhere give, such as those imported from ONNX.

    model = zoo.from_onnx("detector.onnx")
    boxes, scores, labels = model.apply(model.variables, x)         # as its file orders them
    found = adapt_outputs(
        boxes, scores, labels, names, image_size=photo.size, box_size=(320, 320)
    )
    draw_detections(photo, found)
    evaluate_detections([truth], [to_found(found, names)], len(names))

A graph that chooses boxes itself (NonMaxSuppression) gives as many as there are in an image. Run it
as above, outside `jax.jit`, on a NumPy array or one of JAX's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.detection.detections import Detection, name_boxes
from zoo.detection.evaluation.metrics import Found
from zoo.runtime.checks import ArgumentError, check_number


def adapt_outputs(
    boxes: Any,
    scores: Any,
    labels: Any,
    names: Sequence[str] | Mapping[int, str],
    *,
    image_size: tuple[int, int] | None = None,
    box_size: tuple[float, float] | None = None,
    order: str = "xyxy",
    threshold: float = 0.5,
) -> Any:
    """Detections of the usual outputs of exported detectors, the likeliest first.

    Args:
      boxes: [n, 4], or [N, n, 4] for a batch.
      scores: from 0 to 1, [n] or [N, n].
      labels: the numbers of the classes, [n] or [N, n]; they may be whole numbers in floating
        point.
      names: of the classes by their numbers: a sequence, or a mapping such as {1: "person"} where
        numbers begin at 1 or are not consecutive.
      image_size: width and height of the photo, in whose pixels the boxes of detections are.
      box_size: width and height of what the model's boxes are measured in: (1, 1) where they are
        normalised, (320, 320) where they are pixels of a photo that was stretched to that. By
        default they are pixels of the photo.
      order: of the numbers of a box, "xyxy" or "yxyx".
      threshold: what is less likely is left out, from 0 to 1. Rows that only fill an output up,
        which have scores of 0 or less, may hold anything.

    Returns:
      [Detection(label, score, box), …]; for a batch, a list of those.

    Raises:
      ArgumentError: shapes do not fit each other, a class has no name, one of the sizes is missing,
        or a box ends before it begins.
      FloatingPointError: a score, or the box of a detection, is not finite.
    """
    check_number("threshold", threshold, 0, 1)
    if order not in ("xyxy", "yxyx"):
        raise ArgumentError(f"order must be xyxy or yxyx, got {order!r}")
    boxes, scores, labels = (np.asarray(each) for each in (boxes, scores, labels))
    if boxes.ndim not in (2, 3) or boxes.shape[-1] != 4:
        raise ArgumentError(f"boxes must be [n, 4] or [N, n, 4], got {list(boxes.shape)}")
    for name, array in (("scores", scores), ("labels", labels)):
        if array.shape != boxes.shape[:-1]:
            raise ArgumentError(
                f"{name} must be {list(boxes.shape[:-1])}, as boxes are {list(boxes.shape)}, "
                f"got {list(array.shape)}"
            )
    boxes = boxes[..., [1, 0, 3, 2]] if order == "yxyx" else boxes
    boxes = np.float32(boxes) * _find_scale(image_size, box_size)
    if boxes.ndim == 2:
        return _adapt_image(boxes, scores, labels, names, threshold)
    images = zip(boxes, scores, labels, strict=True)
    return [_adapt_image(*image, names, threshold) for image in images]


def to_found(detections: Sequence[Detection], names: Sequence[str]) -> Found:
    """Detections in an image as `zoo.detection.evaluation` takes them.

    Args:
      detections: of any detector.
      names: of the classes; the number of each is its place among them.

    Raises:
      ArgumentError: the label of a detection is not among them.
    """
    numbers = {name: number for number, name in enumerate(names)}
    for one in detections:
        if one.label not in numbers:
            raise ArgumentError(f"names must have every label, got none that is {one.label!r}")
    return Found(
        [one.box for one in detections],
        [one.score for one in detections],
        [numbers[one.label] for one in detections],
    )


def _find_scale(
    image_size: tuple[int, int] | None, box_size: tuple[float, float] | None
) -> np.ndarray:
    """What boxes are multiplied by to be in pixels of the photo, [4]."""
    if (image_size is None) != (box_size is None):
        raise ArgumentError(
            f"image_size and box_size must be given together, got {image_size} and {box_size}"
        )
    if image_size is None or box_size is None:
        return np.ones(4, np.float32)
    for name, size in (("image_size", image_size), ("box_size", box_size)):
        for side in size:
            check_number(f"a side of {name}", side, included=False)
    ratio = np.divide(image_size, box_size)
    return np.tile(ratio, 2).astype(np.float32)


def _adapt_image(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str] | Mapping[int, str],
    threshold: float,
) -> list[Detection]:
    if not np.isfinite(scores).all():
        raise FloatingPointError("the detector's scores are not finite")
    chosen = np.flatnonzero((scores >= threshold) & (scores > 0))
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
    if not np.isfinite(boxes[chosen]).all():
        raise FloatingPointError("the detector's boxes are not finite")
    backwards = (boxes[chosen, :2] > boxes[chosen, 2:]).any(axis=1)
    if backwards.any():
        raise ArgumentError(
            f"boxes must be (x1, y1, x2, y2) with x1 <= x2 and y1 <= y2, got "
            f"{boxes[chosen][backwards][0].tolist()}"
        )
    known = names if isinstance(names, Mapping) else dict(enumerate(names))
    for number in labels[chosen]:
        if number not in known:
            raise ArgumentError(f"names must have every class, got none for number {number:g}")
    return name_boxes(boxes[chosen], scores[chosen], [known[number] for number in labels[chosen]])
