"""How good a model is at MURA: its studies' probabilities beside the radiologists' labels.

The metrics of Rajpurkar et al. 2018, arXiv 1712.06957, with confidence intervals by the bootstrap.
"""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from zoo.checkpoints.load import ModelWithWeights
from zoo.data.dataset import Dataset
from zoo.data.mura import load_mura
from zoo.training.evaluation.binary import (
    CONFIDENCE,
    BinaryEvaluation,
    check_binary,
    evaluate_binary,
)
from zoo.training.evaluation.evaluate import evaluate
from zoo.training.evaluation.metrics import Evaluation

# Of the public validation set. What is published is of another set, which is not public.
VALIDATION_STUDIES, VALIDATION_IMAGES = 1199, 3197
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "paper's model": {"auroc": 0.929, "kappa": 0.705, "sensitivity": 0.815, "specificity": 0.887},
    "best radiologist": {"kappa": 0.778},
}
PUBLISHED_STUDIES = 207
SOURCE = "Rajpurkar et al. 2018, arXiv 1712.06957, on 207 test studies that are not public"


@dataclasses.dataclass(frozen=True, eq=False)
class StudyEvaluation:
    """What a model says of studies, and how good that is.

    Args:
      studies, parts: the name and the body part of each study, sorted by name [studies].
      labels: 1 for positive [studies].
      probabilities: of "positive", the mean over the study's images [studies].
      images: how many the study has [studies].
      threshold: a study is called positive if its probability is above it.
      resamples: of the bootstrap.
      by_part: the metrics of each body part's studies, sorted by name.
      overall: the metrics of all studies.
    """

    studies: np.ndarray
    parts: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    images: np.ndarray
    threshold: float
    resamples: int
    by_part: Mapping[str, BinaryEvaluation]
    overall: BinaryEvaluation

    @property
    def published(self) -> Mapping[str, Mapping[str, float]]:
        """`PUBLISHED` if there are as many studies and images as in MURA's validation set."""
        counts = (len(self.studies), self.images.sum())
        return PUBLISHED if counts == (VALIDATION_STUDIES, VALIDATION_IMAGES) else {}

    def as_dict(self) -> dict[str, Any]:
        """What JSON can hold; undefined numbers are None."""
        return {
            "threshold": self.threshold,
            "resamples": self.resamples,
            "confidence": CONFIDENCE,
            "overall": {
                "studies": len(self.studies),
                "images": int(self.images.sum()),
                **self.overall.as_dict(),
            },
            "by_part": {
                part: {
                    "studies": evaluation.count,
                    "images": int(self.images[self.parts == part].sum()),
                    **evaluation.as_dict(),
                }
                for part, evaluation in self.by_part.items()
            },
            "published": {name: dict(metrics) for name, metrics in self.published.items()},
        }

    def table(
        self, metrics: Sequence[str] = ("auroc", "kappa", "sensitivity", "specificity", "f1")
    ) -> list[list[str]]:
        """Rows of text: a header, each body part, all studies, and what is published.

        Args:
          metrics: the columns, of `zoo.training.evaluation.binary.METRICS`.
        """
        rows = [["part", "studies", *metrics]]
        for name, evaluation in {**self.by_part, "overall": self.overall}.items():
            cells = [str(evaluation.metrics[metric]) for metric in metrics]
            rows.append([name, str(evaluation.count), *cells])
        for name, values in self.published.items():
            cells = [f"{values[metric]:.3f}" if metric in values else "–" for metric in metrics]
            rows.append([name, str(PUBLISHED_STUDIES), *cells])
        return rows


def evaluate_mura(
    model: ModelWithWeights | Sequence[ModelWithWeights],
    data: str | os.PathLike[str] | Dataset,
    **options: Any,
) -> tuple[Evaluation, StudyEvaluation]:
    """Evaluates a model, or an ensemble of several, on MURA's images and on its studies.

    Args:
      model: as for `zoo.training.evaluate`; its labels are "negative" and "positive".
      data: where MURA is, whose validation images are taken; or images as `load_mura` gives them.
      **options: of `zoo.training.evaluate`, all but `limit`.
    """
    dataset = data if isinstance(data, Dataset) else load_mura(data)[1]
    evaluation = evaluate(model, dataset, **options)
    studies, parts = (dataset.columns[name][evaluation.indices] for name in ("study", "part"))
    positive = evaluation.probabilities[:, dataset.classes.index("positive")]
    return evaluation, evaluate_studies(positive, evaluation.labels, studies, parts)


def evaluate_studies(
    probabilities: ArrayLike,
    labels: ArrayLike,
    studies: ArrayLike,
    parts: ArrayLike,
    *,
    threshold: float = 0.5,
    resamples: int = 1000,
    seed: int = 0,
) -> StudyEvaluation:
    """Compares a model's probabilities with the labels of studies.

    A study's probability is the mean over its images. Intervals are the 2.5 % and 97.5 % quantiles
    over resamples of the studies, drawn with replacement.

    Args:
      probabilities: of "positive", for each image [N]; of an ensemble, the mean over its models.
      labels: 1 for positive, 0 for negative [N].
      studies: which study each image is of [N]; the column "study" of `zoo.data.mura.load_mura`.
      parts: which body part each image shows [N]; the column "part".
      threshold: a study is called positive if its probability is above it.
      resamples: how many are drawn.
      seed: another one draws others; the same one draws the same.

    Raises:
      ValueError: the arrays are empty, or have unequal lengths; a probability is not from 0 to 1; a
        label is neither 0 nor 1; the images of a study differ in their labels or body parts; the
        threshold is not from 0 to 1, or `resamples` is below 1.
    """
    p, y, study, part = (np.asarray(array) for array in (probabilities, labels, studies, parts))
    check_binary(p, y)
    if not p.shape == study.shape == part.shape:
        raise ValueError(
            f"studies and parts must be arrays [{len(p)}] as there are {len(p)} probabilities, got "
            f"shapes {study.shape} and {part.shape}"
        )
    names, first, index, images = np.unique(
        study, return_index=True, return_inverse=True, return_counts=True
    )
    for what, array in {"labels": y, "body parts": part}.items():
        if (wrong := array != array[first][index]).any():
            raise ValueError(
                f"the images of study {study[wrong][0]} must be alike in their {what}, got "
                f"{array[first][index][wrong][0]} and {array[wrong][0]}"
            )
    p, y, part = np.bincount(index, p) / images, y[first].astype(int), part[first]
    evaluate = functools.partial(
        evaluate_binary, threshold=threshold, resamples=resamples, seed=seed
    )
    return StudyEvaluation(
        studies=names,
        parts=part,
        labels=y,
        probabilities=p,
        images=images,
        threshold=threshold,
        resamples=resamples,
        by_part={str(name): evaluate(p[part == name], y[part == name]) for name in np.unique(part)},
        overall=evaluate(p, y),
    )
