"""How good a classifier is, measured on labelled images."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from zoo.data.dataset import DatasetError

# Of the calibration error (Guo et al. 2017, arXiv 1706.04599, section 2).
BINS = 15
# Where a probability is 0 in float32, the loss is as if it were the least normal number.
MIN_PROBABILITY = float(np.finfo(np.float32).tiny)


class CalibrationBins(NamedTuple):
    """Images that are grouped by the model's confidence, the likeliest class's probability.

    Args:
      images: their number in each of `BINS` equal ranges of the confidence.
      confidence: their mean confidence; NaN where there are none.
      accuracy: the fraction of them that is classified rightly; NaN where there are none.
    """

    images: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


class Confusion(NamedTuple):
    """How many images of one class are taken for another; both are class numbers."""

    truth: int
    predicted: int
    images: int


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model says of labelled images, and how good that is.

    Args:
      classes: the names of the classes, in the order of their numbers.
      labels: the number of each image's class [N].
      probabilities: of each class [N, classes].
      names: what each image is called, such as its path; none, or N.
      skipped: messages about images that could not be read; they are not among the N.
      seconds: how long the evaluation took; 0 where it is not known.
      indices: the number of each image in the data set [N]; None where it is not known.

    Raises:
      DatasetError: there are no images.
      FloatingPointError: a probability is not finite.
      ValueError: the arguments do not fit each other.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    names: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    seconds: float = 0.0
    indices: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Checks the arguments; arrays of other libraries become NumPy's."""
        object.__setattr__(self, "labels", np.asarray(self.labels))
        object.__setattr__(self, "probabilities", np.asarray(self.probabilities))
        shape = (len(self.labels), len(self.classes))
        if not shape[0]:
            reason = f"; {len(self.skipped)} skipped: {self.skipped[0]}" if self.skipped else ""
            raise DatasetError(f"at least one image is needed to evaluate, got none{reason}")
        if self.probabilities.shape != shape:
            raise ValueError(
                f"probabilities must be [images, classes] = {shape}, got {self.probabilities.shape}"
            )
        low, high = self.labels.min(), self.labels.max()
        if self.labels.dtype.kind not in "iu" or low < 0 or high >= shape[1]:
            raise ValueError(
                f"labels must be class numbers from 0 to {shape[1] - 1}, got {self.labels.dtype} "
                f"from {low} to {high}"
            )
        if len(self.names) not in (0, shape[0]):
            raise ValueError(f"there are {shape[0]} images, but {len(self.names)} names")
        finite = np.isfinite(self.probabilities).all(axis=1)
        if not finite.all():
            raise FloatingPointError(
                f"the model's probabilities are not finite (NaN or infinity) for "
                f"{np.count_nonzero(~finite)} of {shape[0]} images"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @functools.cached_property
    def predicted(self) -> np.ndarray:
        """The number of each image's likeliest class [N], the first of equally likely ones."""
        return self.probabilities.argmax(axis=1)

    @functools.cached_property
    def truth_probabilities(self) -> np.ndarray:
        """The probability of each image's true class [N]."""
        return self.probabilities[np.arange(len(self)), self.labels]

    @property
    def loss(self) -> float:
        """The mean cross-entropy, in nats."""
        truth = self.truth_probabilities.astype(np.float64)
        return float(-np.log(np.maximum(truth, MIN_PROBABILITY)).mean())

    @property
    def top1(self) -> float:
        """The fraction of images whose likeliest class is the true one."""
        return float((self.predicted == self.labels).mean())

    @property
    def top5(self) -> float | None:
        """The fraction of images whose true class is among the five likeliest.

        None for five classes or fewer, where that says nothing. Of equally likely classes the
        first ones count as likelier.
        """
        if len(self.classes) <= 5:
            return None
        truth = self.truth_probabilities[:, None]
        earlier = np.arange(len(self.classes)) < self.labels[:, None]
        ahead = (self.probabilities > truth) | ((self.probabilities == truth) & earlier)
        return float((ahead.sum(axis=1) < 5).mean())

    @functools.cached_property
    def confusion(self) -> np.ndarray:
        """The number of images of each true class (rows) and predicted class (columns)."""
        count = len(self.classes)
        pairs = self.labels.astype(np.int64) * count + self.predicted
        return np.bincount(pairs, minlength=count * count).reshape(count, count)

    @property
    def class_counts(self) -> np.ndarray:
        """The number of images of each class [classes]."""
        return self.confusion.sum(axis=1)

    @property
    def metrics(self) -> dict[str, float]:
        """What a training shows of it: loss and accuracy."""
        return {"loss": self.loss, "accuracy": self.top1}

    @property
    def rank(self) -> tuple[float, float]:
        """Greater for a better model: by the accuracy, and where that is equal by the loss."""
        return self.top1, -self.loss

    @property
    def cost(self) -> float:
        """Less for a better model."""
        return self.loss

    @property
    def class_accuracy(self) -> np.ndarray:
        """The fraction of each class's images that is classified rightly [classes].

        NaN for a class without images.
        """
        return _divide(self.confusion.diagonal(), self.class_counts)

    @property
    def balanced_accuracy(self) -> float:
        """The mean of the classes' accuracies, whatever their numbers of images."""
        return float(np.nanmean(self.class_accuracy))

    @property
    def calibration(self) -> CalibrationBins:
        """How often the model is right beside how sure it is."""
        confidence = self.probabilities.max(axis=1).astype(np.float64)
        # A confidence on the border of two bins is in the lower one, as in the paper.
        bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
        count = np.bincount(bins, minlength=BINS)
        right = np.bincount(bins, self.predicted == self.labels, BINS)
        return CalibrationBins(
            count, _divide(np.bincount(bins, confidence, BINS), count), _divide(right, count)
        )

    @property
    def calibration_error(self) -> float:
        """The expected calibration error: the mean distance of confidence and accuracy.

        Over 15 equal ranges of the confidence, each weighted by its number of images (Guo et al.
        2017, arXiv 1706.04599, equation 3).
        """
        bins = self.calibration
        distance = np.nan_to_num(np.abs(bins.confidence - bins.accuracy))
        return float(distance @ bins.images / len(self))

    @property
    def images_per_second(self) -> float | None:
        """How many images were evaluated in a second; None where that is not known."""
        return len(self) / self.seconds if self.seconds > 0 else None

    def worst(self, count: int) -> np.ndarray:
        """The numbers of the images whose true class got least probability, the worst first.

        Wrongly classified images come before all others.
        """
        right = self.predicted == self.labels
        return np.lexsort((self.truth_probabilities, right))[:count]

    def most_confused(self, count: int) -> Sequence[Confusion]:
        """The pairs of classes that are confused most often, the worst first."""
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:count]
        pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
        return [
            Confusion(int(truth), int(predicted), int(wrong[truth, predicted]))
            for truth, predicted in pairs
            if wrong[truth, predicted]
        ]

    def as_dict(self) -> dict[str, Any]:
        """A summary as JSON can hold it; what is not known is None.

        The classes are a list in the order of their numbers, as names may be equal.
        """
        by_class = zip(self.classes, self.class_counts, self.class_accuracy, strict=True)
        return {
            "images": len(self),
            "skipped": len(self.skipped),
            "loss": self.loss,
            "top1": self.top1,
            "top5": self.top5,
            "balanced_accuracy": self.balanced_accuracy,
            "calibration_error": self.calibration_error,
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
            "classes": [
                {"name": name, "images": int(count), "accuracy": float(accuracy) if count else None}
                for name, count, accuracy in by_class
            ],
        }


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotients in float64; NaN where the denominator is 0."""
    undefined = np.full(len(denominator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)
