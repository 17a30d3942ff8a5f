"""How good a detector is on images whose objects are known."""

import contextlib
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zoo.data.dataset import DatasetError
from zoo.data.pipeline import load_batches
from zoo.detection.data.augment import DetectionResize, DetectionSample
from zoo.detection.data.dataset import DetectionDataset
from zoo.detection.evaluation.metrics import CocoFigures, Found, Truth, evaluate_detections
from zoo.detection.models.detector import Detector, Predictions
from zoo.inference.preprocessing import Preprocessing
from zoo.runtime.prefetch import prefetch
from zoo.training.devices import Placement
from zoo.training.processes import iterate_together, share
from zoo_kernels import jit

# (variables, images [N, H, W, C] uint8, sizes [N, 2]) → predictions.
Predict = Callable[..., Predictions]


class DetectionScore(NamedTuple):
    """How good a detector is: a `Score` of a training.

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
        """What a training shows of it."""
        return {"ap": zero_if_unknown(self.figures.ap), "ap50": zero_if_unknown(self.figures.ap50)}

    @property
    def rank(self) -> tuple[float, float]:
        """Greater for a better detector."""
        return tuple(self.metrics.values())  # type: ignore[return-value]

    @property
    def cost(self) -> float:
        """Less for a better detector."""
        return 1 - self.metrics["ap"]


def zero_if_unknown(figure: float) -> float:
    """A figure, or 0 where there is no object to tell it by."""
    return 0.0 if math.isnan(figure) else figure


@functools.lru_cache(maxsize=16)
def make_predict(model: Detector, preprocessing: Preprocessing, placement: Placement) -> Predict:
    """Compiles a detector's inference; the predictions are on all devices."""

    def predict(variables: Any, images: jax.Array, sizes: jax.Array) -> Predictions:
        x = preprocessing.normalize(images)
        sizes = sizes.astype(jnp.float32)
        outputs: Any = model.apply(variables, x, **model.apply_arguments(sizes))
        return model.predict(outputs, sizes)

    return jit(predict, out_shardings=placement.replicated)


def evaluate_variables(
    predict: Predict,
    variables: Any,
    images: DetectionDataset,
    resize: DetectionResize,
    placement: Placement,
    batch_size: int,
    workers: int,
    blank: DetectionSample,
    on_batch: Callable[[int], None] = lambda count: None,
) -> DetectionScore:
    """Evaluates variables on images of one size; see `DetectionTask.make_evaluate`.

    On several processes each has its part of the batches, and all get the whole result.
    """
    found: dict[int, Found] = {}
    errors: list[str] = []
    batches = load_batches(
        images,
        resize,
        batch_size,
        (resize.height, resize.width, 3),
        workers=workers,
        part=(jax.process_index(), jax.process_count()),
        blank=blank,
    )
    with contextlib.closing(batches):
        for batch in iterate_together(prefetch(batches)):
            errors += batch.errors
            sample: DetectionSample = batch.labels
            pixels, sizes, original, indices, read = placement.put_batch(
                (batch.images, sample.size, sample.original_size, batch.indices, batch.read)
            )
            predictions = jax.device_get(predict(variables, pixels, sizes))
            sizes, original, indices, read = jax.device_get(
                placement.replicate((sizes, original, indices, read))
            )
            for row in np.flatnonzero(read & (indices >= 0)):
                ratio = original[row] / sizes[row]
                found[int(indices[row])] = as_found(predictions, row, ratio)
            on_batch(int((indices >= 0).sum()))
    errors = list(itertools.chain(*share(errors)))
    if not found:
        raise DatasetError(f"none of the {len(images)} images can be read; {errors[0]}")
    return score(images, found, tuple(errors))


def as_found(predictions: Predictions, row: Any, ratio: np.ndarray) -> Found:
    """The predictions of an image, scaled by a ratio of heights and of widths; labels from 0."""
    if not predictions.finite[row]:
        raise FloatingPointError(
            "the detector's outputs are not finite: its weights or the image may be damaged"
        )
    count = int(predictions.counts[row])
    boxes = np.asarray(predictions.boxes[row][:count], np.float64) * np.tile(ratio[::-1], 2)
    scores, labels = predictions.scores[row][:count], predictions.labels[row][:count] - 1
    return Found(boxes, scores, labels)


def score(
    images: DetectionDataset, found: dict[int, Found], skipped: Sequence[str] = ()
) -> DetectionScore:
    """COCO's figures of what was found in the images of these numbers."""
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
        raise DatasetError(
            f"the detector has no class {missing[0]!r}; it has {', '.join(labels[:10])}"
            f"{' …' if len(labels) > 10 else ''}"
        )
    numbers = np.array([labels.index(name) for name in dataset.classes], np.int32)
    return dataclasses.replace(
        dataset, labels=[numbers[part] for part in dataset.labels], classes=tuple(labels)
    )
