"""How good a detector is: COCO's twelve figures, measured on images whose objects are known.

The figures are those of COCO's challenge (Lin et al. 2014, arXiv 1405.0312, and
https://cocodataset.org/#detection-eval), for boxes.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo.detection.evaluation.curves import Outcome
from zoo.detection.evaluation.matching import (
    MAX_DETECTIONS,
    Guesses,
    Objects,
    find_pairs,
    join_groups,
    match,
    measure_areas,
    rank_guesses,
)
from zoo.runtime.checks import ArgumentError, check_count

# The areas of objects in pixels, limits included.
SIZES = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Truth:
    """The objects that are in an image.

    Args:
      boxes: [n, 4] as (x1, y1, x2, y2), in pixels.
      labels: the number of each one's class [n].
      crowd: whether the box is around a crowd [n]: detections inside it are neither right nor
        wrong. By default none is.
      areas: of the objects [n], in pixels squared, by which they are small, medium or large; COCO's
        are those of the objects' outlines. By default those of the boxes.

    Raises:
      ArgumentError: the arguments do not fit each other, or a number is not finite.
    """

    boxes: Any
    labels: Any
    crowd: Any = None
    areas: Any = None

    def __post_init__(self) -> None:
        """Checks the arguments, which become NumPy's arrays."""
        boxes = _check_boxes(self.boxes)
        count = len(boxes)
        crowd = np.zeros(count, bool) if self.crowd is None else self.crowd
        areas = measure_areas(boxes) if self.areas is None else self.areas
        _set(self, "boxes", boxes)
        _set(self, "labels", _check_labels(self.labels, count))
        _set(self, "crowd", _check_length("crowd", np.asarray(crowd, bool), count))
        _set(self, "areas", _check_finite("areas", areas, count))


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """What a detector finds in an image.

    Args:
      boxes: [m, 4] as (x1, y1, x2, y2), in pixels.
      scores: how sure the detector is of each one [m].
      labels: the number of each one's class [m].

    Raises:
      ArgumentError: the arguments do not fit each other, or a number is not finite.
    """

    boxes: Any
    scores: Any
    labels: Any

    def __post_init__(self) -> None:
        """Checks the arguments, which become NumPy's arrays."""
        boxes = _check_boxes(self.boxes)
        _set(self, "boxes", boxes)
        _set(self, "scores", _check_finite("scores", self.scores, len(boxes)))
        _set(self, "labels", _check_labels(self.labels, len(boxes)))


@dataclasses.dataclass(frozen=True, eq=False)
class CocoFigures:
    """COCO's twelve figures, from 0 to 1, and the average precision of each class.

    NaN stands where no object is counted: for a class without objects, or a size that none has.
    pycocotools reports -1 there. Means are over the classes that have objects, in both.

    Args:
      ap: average precision, the mean over the IoUs 0.5, 0.55 … 0.95.
      ap50, ap75: average precision at an IoU of 0.5, and of 0.75.
      ap_small, ap_medium, ap_large: like `ap`, for objects of up to 32² pixels, up to 96², and
        above.
      ar1, ar10, ar100: average recall over the same IoUs, with the 1, 10 or 100 detections of
        highest score in each image and class.
      ar_small, ar_medium, ar_large: like `ar100`, for objects of these sizes.
      class_ap: like `ap`, of each class [classes].
      class_ap50: like `ap50`, of each class [classes].
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar1: float
    ar10: float
    ar100: float
    ar_small: float
    ar_medium: float
    ar_large: float
    class_ap: np.ndarray
    class_ap50: np.ndarray

    def as_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """The figures as JSON values; None where no object counts."""
        fields = (field.name for field in dataclasses.fields(self))
        values = {n: _as_json(getattr(self, n)) for n in fields if not n.startswith("class_")}
        columns = zip(classes, self.class_ap, self.class_ap50, strict=True)
        by_class = {
            name: {"ap": _as_json(ap), "ap50": _as_json(ap50)} for name, ap, ap50 in columns
        }
        return {**values, "classes": by_class}

    def __str__(self) -> str:
        lines = [f"{'':17}  {'IoU':11}  {'objects':7}  {'detections':>10}  value"]
        for name, (ious, size, detections) in _ROWS.items():
            kind = "average precision" if name.startswith("ap") else "average recall"
            value = getattr(self, name)
            shown = "no objects" if np.isnan(value) else f"{value:.4f}"
            lines.append(f"{kind:17}  {ious:11}  {size:7}  {detections:>10}  {shown}")
        return "\n".join(lines)


_RANGE = "0.50 to 0.95"
# Of each figure: the IoUs, the size of the objects, and the detections of an image and class.
_ROWS = {
    "ap": (_RANGE, "all", 100),
    "ap50": ("0.50", "all", 100),
    "ap75": ("0.75", "all", 100),
    "ap_small": (_RANGE, "small", 100),
    "ap_medium": (_RANGE, "medium", 100),
    "ap_large": (_RANGE, "large", 100),
    "ar1": (_RANGE, "all", 1),
    "ar10": (_RANGE, "all", 10),
    "ar100": (_RANGE, "all", 100),
    "ar_small": (_RANGE, "small", 100),
    "ar_medium": (_RANGE, "medium", 100),
    "ar_large": (_RANGE, "large", 100),
}


def evaluate_detections(
    truths: Sequence[Truth], found: Sequence[Found], num_classes: int
) -> CocoFigures:
    """Compares what a detector finds in images with what is in them.

    The 100 detections of highest score in each image and class count. Equal scores are ordered by
    image, and within an image as they are given. A detection that matches an object is right. One
    that matches a crowd or an object of another size is neither right nor wrong, and so is one that
    matches nothing and whose own box is of another size.

    Args:
      truths: of each image, its objects.
      found: of each image, in the same order, the detections.
      num_classes: labels are from 0 to `num_classes` - 1.

    Returns:
      The figures, equal to those of pycocotools but for NaN in place of -1.

    Raises:
      ArgumentError: there are no images, the numbers of images differ, or a label is too large.
    """
    num_classes = check_count("num_classes", num_classes)
    if not truths or len(truths) != len(found):
        raise ArgumentError(
            f"truths and found must have an entry for each image, got {len(truths)} and "
            f"{len(found)}"
        )
    _check_range("truths", truths, num_classes)
    _check_range("found", found, num_classes)
    objects, guesses = _join_truths(truths), _join_found(found)
    pairs = find_pairs(guesses, objects)
    areas = measure_areas(guesses.boxes)
    outcomes = {}
    for size, (low, high) in SIZES.items():
        ignored = objects.crowd | (objects.areas < low) | (objects.areas > high)
        matches = match(pairs, guesses, objects, ignored)
        outside = (areas < low) | (areas > high)
        hit = matches >= 0
        # A detection that matches nothing has index -1, which takes the last value.
        skipped = np.where(hit, np.append(ignored, False)[matches], outside[:, None])
        counts = np.bincount(objects.labels[~ignored], minlength=num_classes)
        outcomes[size] = Outcome(guesses, hit & ~skipped, ~hit & ~skipped, counts)
    precision = {size: outcome.precision() for size, outcome in outcomes.items()}
    recall = {size: outcome.recall(MAX_DETECTIONS) for size, outcome in outcomes.items()}
    every = precision["all"]
    return CocoFigures(
        ap=_mean(every),
        ap50=_mean(every[:, 0]),
        ap75=_mean(every[:, 5]),
        ap_small=_mean(precision["small"]),
        ap_medium=_mean(precision["medium"]),
        ap_large=_mean(precision["large"]),
        ar1=_mean(outcomes["all"].recall(1)),
        ar10=_mean(outcomes["all"].recall(10)),
        ar100=_mean(recall["all"]),
        ar_small=_mean(recall["small"]),
        ar_medium=_mean(recall["medium"]),
        ar_large=_mean(recall["large"]),
        class_ap=every.mean(axis=1),
        class_ap50=every[:, 0],
    )


def _mean(values: np.ndarray) -> float:
    """The mean of those that are not NaN; NaN if all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _join_truths(truths: Sequence[Truth]) -> Objects:
    labels, groups = join_groups([truth.labels for truth in truths])
    order = np.argsort(groups, kind="stable")
    boxes = np.concatenate([truth.boxes for truth in truths])
    crowd = np.concatenate([truth.crowd for truth in truths])
    areas = np.concatenate([truth.areas for truth in truths])
    return Objects(boxes[order], labels[order], groups[order], crowd[order], areas[order])


def _join_found(found: Sequence[Found]) -> Guesses:
    labels, groups = join_groups([one.labels for one in found])
    boxes = np.concatenate([one.boxes for one in found])
    return rank_guesses(boxes, labels, groups, np.concatenate([one.scores for one in found]))


_set = object.__setattr__


def _check_boxes(boxes: Any) -> np.ndarray:
    array = np.asarray(boxes, np.float64)
    array = array.reshape(0, 4) if array.size == 0 else array
    if array.ndim != 2 or array.shape[1] != 4:
        raise ArgumentError(f"boxes must be [n, 4] as (x1, y1, x2, y2), got {array.shape}")
    bad = ~(np.isfinite(array).all(axis=1) & (array[:, :2] <= array[:, 2:]).all(axis=1))
    if bad.any():
        index = int(bad.argmax())
        raise ArgumentError(
            f"boxes must be finite, with x1 <= x2 and y1 <= y2, got {array[index].tolist()} as "
            f"boxes[{index}]"
        )
    return array


def _check_labels(labels: Any, count: int) -> np.ndarray:
    array = np.asarray(labels)
    if array.size and array.dtype.kind not in "iu":
        raise ArgumentError(f"labels must be integers, got {array.dtype}")
    return _check_length("labels", array.astype(np.int64), count)


def _check_finite(name: str, values: Any, count: int) -> np.ndarray:
    array = _check_length(name, np.asarray(values, np.float64), count)
    if not np.isfinite(array).all():
        index = int((~np.isfinite(array)).argmax())
        raise ArgumentError(f"{name} must be finite, got {array[index]} as {name}[{index}]")
    return array


def _check_length(name: str, array: np.ndarray, count: int) -> np.ndarray:
    if array.shape != (count,):
        raise ArgumentError(
            f"{name} must be [{count}], as there are {count} boxes, got {array.shape}"
        )
    return array


def _check_range(name: str, images: Sequence[Truth | Found], num_classes: int) -> None:
    for index, image in enumerate(images):
        wrong = (image.labels < 0) | (image.labels >= num_classes)
        if wrong.any():
            raise ArgumentError(
                f"labels must be class numbers from 0 to {num_classes - 1}, got "
                f"{image.labels[wrong][0]} in {name}[{index}]"
            )


def _as_json(figure: float) -> float | None:
    return None if np.isnan(figure) else float(figure)
