"""Evaluates detectors on images whose objects are known."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zoo.checkpoints.load import ModelWithWeights, as_trained
from zoo.data.dataset import DatasetError
from zoo.detection.canvas import Canvas
from zoo.detection.data.dataset import DetectionDataset
from zoo.detection.data.load import Kind, load_detection
from zoo.detection.evaluation.metrics import CocoFigures, Found, Truth, evaluate_detections
from zoo.detection.trained import TrainedDetector
from zoo.inference.images import ImageError
from zoo.runtime.checks import check_count


class DetectionScore(NamedTuple):
    """How good a detector is; in a training, a `zoo.training.task.Score`.

    Args:
      figures: COCO's.
      found: of each image that could be read, in its pixels; labels count from 0.
      indices: which of the data set's images these are.
      skipped: messages about those that could not be read.
    """

    figures: CocoFigures
    found: list[Found]
    indices: np.ndarray
    skipped: tuple[str, ...]

    @property
    def metrics(self) -> dict[str, float]:
        """What a training shows of it; 0 where there is no object to tell it by."""
        both = {"ap": self.figures.ap, "ap50": self.figures.ap50}
        return {name: 0.0 if math.isnan(value) else value for name, value in both.items()}

    @property
    def rank(self) -> tuple[float, ...]:
        """Greater for a better detector."""
        return tuple(self.metrics.values())

    @property
    def cost(self) -> float:
        """Less for a better detector."""
        return 1 - self.metrics["ap"]


def evaluate(
    detector: ModelWithWeights,
    data: Any,
    *,
    kind: Kind | None = None,
    batch_size: int = 1,
    limit: int | None = None,
    on_image: Callable[[], None] = lambda: None,
) -> DetectionScore:
    """Evaluates a detector on images with boxes, each at the size that the detector asks for.

        zoo.detection.evaluate(zoo.trained("SSD300_VGG16"), "coco/").figures.ap

    Args:
      detector: what `zoo.trained` returns, a pair (model, variables) or a detector's name.
      data: a `DetectionDataset`, or what `load_detection` takes; of two parts the one for
        validation. Its classes must be among the detector's labels.
      kind: as of `load_detection`.
      batch_size: how many images of one shape are computed at once.
      limit: only so many of the images, drawn at random with a fixed seed.
      on_image: is called for each image.

    Returns:
      COCO's figures and what was found; images that cannot be read are left out and listed.

    Raises:
      DatasetError: the data cannot be read, or have a class that is none of the detector's.
    """
    trained = as_trained(detector)
    if not isinstance(trained, TrainedDetector):
        raise TypeError(f"detector must be a detector, got {trained.model.title}")
    check_count("batch_size", batch_size)
    dataset = replace_labels(_load(data, kind), trained.labels[1:])
    if limit is not None and check_count("limit", limit) < len(dataset):
        chosen = np.random.default_rng(0).permutation(len(dataset))[:limit]
        dataset = dataset.select(np.sort(chosen))
    read: list[int] = []
    skipped: list[str] = []

    def prepare() -> Iterator[Canvas]:
        for index, image in enumerate(dataset.images):
            try:
                canvas = trained.prepare(image)
            except ImageError as error:
                skipped.append(f"{dataset.name_of(index)}: {error}")
                continue
            read.append(index)
            yield canvas

    found: dict[int, Found] = {}
    for here, _ in trained.find_boxes(prepare(), batch_size):
        found[read[len(found)]] = drop_background(here)
        on_image()
    if not found:
        cause = f"; {skipped[0]}" if skipped else ""
        raise DatasetError(f"none of the {len(dataset)} images can be read{cause}")
    return score(dataset, found, skipped)


def _load(data: Any, kind: Kind | None) -> DetectionDataset:
    if isinstance(data, DetectionDataset):
        return data
    train, val = load_detection(data, kind)
    return train if val is None else val


def drop_background(found: Found) -> Found:
    """The same with labels that count from 0, without the background."""
    return Found(found.boxes, found.scores, found.labels - 1)


def score(
    images: DetectionDataset, found: Mapping[int, Found], skipped: Sequence[str] = ()
) -> DetectionScore:
    """COCO's figures of what was found in the images of these numbers; labels count from 0."""
    indices = np.array(sorted(found))
    truths = [
        Truth(images.boxes[i], images.labels[i], images.crowd[i], images.areas[i]) for i in indices
    ]
    rows = [found[int(i)] for i in indices]
    figures = evaluate_detections(truths, rows, len(images.classes))
    return DetectionScore(figures, rows, indices, tuple(skipped))


def replace_labels(dataset: DetectionDataset, labels: Sequence[str]) -> DetectionDataset:
    """The data set with a detector's classes in place of its own.

    Args:
      dataset: whose classes must all be among the labels.
      labels: of the detector, without the background.

    Raises:
      DatasetError: a class is none of the detector's.
    """
    if tuple(labels) == dataset.classes:
        return dataset
    missing = [name for name in dataset.classes if name not in labels]
    if missing:
        shown = ", ".join(labels[:10]) + (" …" if len(labels) > 10 else "")
        raise DatasetError(f"the detector has no class {missing[0]!r}; its classes are {shown}")
    numbers = np.array([labels.index(name) for name in dataset.classes], np.int32)
    renumbered = [numbers[part] for part in dataset.labels]
    return dataclasses.replace(dataset, labels=renumbered, classes=tuple(labels))
