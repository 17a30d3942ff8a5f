"""How good a classifier of two classes is, with confidence intervals by the bootstrap."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

METRICS = ("auroc", "kappa", "sensitivity", "specificity", "precision", "f1", "accuracy")
CONFIDENCE = 0.95

# Cells of a block of resamples: memory stays near 100 MB however many there are.
_BLOCK = 2_000_000


class Estimate(NamedTuple):
    """A metric's value with its 95 % confidence interval; NaN is undefined.

    Args:
      value: of the examples as they are.
      low, high: of the interval, from the resamples in which the metric is defined.
      undefined: how many resamples were left out, as the metric divides by zero in them.
    """

    value: float
    low: float
    high: float
    undefined: int

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "–"
        return f"{self.value:.3f} ({self.low:.2f}–{self.high:.2f})"


@dataclasses.dataclass(frozen=True, eq=False)
class BinaryEvaluation:
    """The confusion matrix and the metrics of a classifier of two classes.

    Args:
      confusion: how many examples there are of each true class (row) and predicted class (column),
        the negative one first [2, 2].
      confusion_low, confusion_high: the 95 % confidence intervals of these four numbers [2, 2].
      metrics: an `Estimate` for each of `METRICS`: the area under the ROC curve, Cohen's kappa,
        sensitivity (recall), specificity, precision, F1 and accuracy.
    """

    confusion: np.ndarray
    confusion_low: np.ndarray
    confusion_high: np.ndarray
    metrics: Mapping[str, Estimate]

    @property
    def count(self) -> int:
        """How many examples there are."""
        return int(self.confusion.sum())

    def as_dict(self) -> dict[str, Any]:
        """What JSON can hold; undefined numbers are None."""
        return {
            "confusion": self.confusion.tolist(),
            "confusion_low": self.confusion_low.tolist(),
            "confusion_high": self.confusion_high.tolist(),
        } | {
            name: {key: None if math.isnan(x) else x for key, x in estimate._asdict().items()}
            for name, estimate in self.metrics.items()
        }


def evaluate_binary(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    threshold: float = 0.5,
    resamples: int = 1000,
    seed: int = 0,
) -> BinaryEvaluation:
    """Compares a classifier's probabilities with the labels.

    Intervals are the 2.5 % and 97.5 % quantiles over resamples of the examples, drawn with
    replacement.

    Args:
      probabilities: of the positive class [N].
      labels: 1 for positive, 0 for negative [N].
      threshold: an example is called positive if its probability is above it.
      resamples: how many are drawn.
      seed: another one draws others; the same one draws the same.

    Raises:
      ValueError: the arrays are empty, or have unequal lengths; a probability or the threshold is
        not from 0 to 1; a label is neither 0 nor 1; or `resamples` is below 1.
    """
    p, y = np.asarray(probabilities, float), np.asarray(labels)
    check_binary(p, y)
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be from 0 to 1, got {threshold}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    order = np.argsort(p)
    p, y = p[order], y[order].astype(int)
    confusion, values = _score(np.ones((1, len(p))), p, y, threshold)
    blocks = [_score(weights, p, y, threshold) for weights in _draw(len(p), resamples, seed)]
    low, high = _interval(np.concatenate([confusions for confusions, _ in blocks]))
    return BinaryEvaluation(
        confusion=confusion[0].astype(int),
        confusion_low=low,
        confusion_high=high,
        metrics={
            name: _estimate(values[name][0], np.concatenate([scores[name] for _, scores in blocks]))
            for name in METRICS
        },
    )


def check_binary(p: np.ndarray, y: np.ndarray) -> None:
    """Raises ValueError unless these are probabilities and labels; see `evaluate_binary`."""
    if p.ndim != 1 or p.shape != y.shape or not p.size:
        raise ValueError(
            "probabilities and labels must be arrays [N] of at least one example, got shapes "
            f"{p.shape} and {y.shape}"
        )
    if (wrong := ~((p >= 0) & (p <= 1))).any():
        raise ValueError(f"probabilities must be from 0 to 1, got {p[wrong][0]}")
    if (wrong := ~np.isin(y, (0, 1))).any():
        raise ValueError(f"labels must be 0 or 1, got {y[wrong][0]}")


def _estimate(value: float, resampled: np.ndarray) -> Estimate:
    undefined = np.isnan(resampled)
    low, high = _interval(resampled[~undefined])
    return Estimate(float(value), float(low), float(high), int(undefined.sum()))


def _draw(count: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yields blocks [R, count]: how often each example is in each resample."""
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK // count)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        yield random.multinomial(count, np.full(count, 1 / count), size).astype(float)


def _score(
    weights: np.ndarray, p: np.ndarray, y: np.ndarray, threshold: float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Confusion matrices [R, 2, 2] and metrics [R] of examples that are sorted by probability.

    Args:
      weights: how often each example counts [R, N].
      p, y: probabilities and labels [N].
      threshold: an example is called positive if its probability is above it.
    """
    cells = np.eye(4)[2 * y + (p > threshold)]  # in the order of a confusion matrix's cells
    confusion = (weights @ cells).reshape(-1, 2, 2)
    (tn, fp), (fn, tp) = np.moveaxis(confusion, 0, -1)
    n = tn + fp + fn + tp
    agreement = tn + tp
    by_chance = ((tn + fp) * (tn + fn) + (fn + tp) * (fp + tp)) / n
    return confusion, {
        "auroc": _auroc(weights, p, y),
        "kappa": _divide(agreement - by_chance, n - by_chance),
        "sensitivity": _divide(tp, tp + fn),
        "specificity": _divide(tn, tn + fp),
        "precision": _divide(tp, tp + fp),
        "f1": _divide(2 * tp, 2 * tp + fp + fn),
        "accuracy": agreement / n,
    }


def _auroc(weights: np.ndarray, p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The probability that a positive example ranks above a negative one, where ties count half."""
    starts = np.flatnonzero(np.diff(p, prepend=-1.0))  # of the runs of equal probabilities
    positive = np.add.reduceat(weights * y, starts, axis=1)
    negative = np.add.reduceat(weights * (1 - y), starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return _divide((positive * below).sum(axis=1), pairs)


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The quotient, and NaN where b is 0."""
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b != 0)


def _interval(values: np.ndarray) -> np.ndarray:
    """The bounds [2, …] between which the middle 95 % of values [R, …] are; NaN of none."""
    if not len(values):
        return np.full((2, *values.shape[1:]), np.nan)
    return np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
