"""Precision and recall of matched detections, by class and IoU."""

import dataclasses

import numpy as np

from zoo.detection.evaluation.matching import Guesses

RECALLS = np.linspace(0, 1, 101)


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """Which detections are right and wrong, for objects of one size.

    Args:
      guesses: the detections.
      right, wrong: whether each one is, at each IoU [m, 10].
      counts: the number of each class's objects [classes].
    """

    guesses: Guesses
    right: np.ndarray
    wrong: np.ndarray
    counts: np.ndarray

    def precision(self) -> np.ndarray:
        """The average precision [classes, 10]; NaN for a class without objects."""
        order = np.lexsort((-self.guesses.scores, self.guesses.labels))
        bounds = np.searchsorted(self.guesses.labels, np.arange(len(self.counts) + 1))
        result = np.full((len(self.counts), self.right.shape[1]), np.nan)
        for label in np.flatnonzero(self.counts):
            part = order[bounds[label] : bounds[label + 1]]
            result[label] = _average_precision(
                self.right[part], self.wrong[part], self.counts[label]
            )
        return result

    def recall(self, detections: int) -> np.ndarray:
        """The share of the objects found by so many detections of each image and class.

        Returns:
          [classes, 10]; NaN for a class without objects.
        """
        counted = self.right & (self.guesses.ranks < detections)[:, None]
        rows, columns = np.nonzero(counted)
        shape = (len(self.counts), counted.shape[1])
        cells = self.guesses.labels[rows] * shape[1] + columns
        hits = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)
        undefined = np.full(shape, np.nan)
        counts = self.counts[:, None]
        return np.divide(hits, counts, out=undefined, where=counts > 0)


def _average_precision(right: np.ndarray, wrong: np.ndarray, count: int) -> np.ndarray:
    """The mean precision at the 101 recalls, at each IoU [10].

    The precision at a recall is the highest one at this recall or a higher one; 0 at recalls that
    are not reached.

    Args:
      right, wrong: whether each detection is, the highest score first [n, 10].
      count: the number of objects.
    """
    hits, misses = right.cumsum(axis=0), wrong.cumsum(axis=0)
    precision = hits / np.maximum(hits + misses, 1)
    highest = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    columns = zip(hits.T / count, highest.T, strict=True)
    return np.array(
        [np.append(high, 0)[np.searchsorted(recall, RECALLS)].mean() for recall, high in columns]
    )
