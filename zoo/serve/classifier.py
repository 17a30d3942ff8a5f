"""What a model must be like to be served."""

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from zoo.inference.images import ImageSource
from zoo.inference.trained import Info
from zoo_pretrained.catalogue import Label


class Classifier(Protocol):
    """A model as it is served: what `Trained.compile` returns, or anything that acts like it.

    All of it is called in several threads at once, except `probabilities`.
    """

    @property
    def info(self) -> Info:
        """Facts about the weights."""

    @property
    def size(self) -> int:
        """Height and width of the input, in pixels."""

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """How many photos a batch may have; no batch is larger than the largest of these."""

    def preprocess(self, images: ImageSource | Iterable[ImageSource], /) -> np.ndarray:
        """Images → [N, size, size, C]; ImageError if one is none."""

    def probabilities(self, x: Any, /) -> Any:
        """[N, size, size, C] → [N, classes]."""

    def count_top(self, top: int | None = None, /) -> int:
        """How many classes to name by default."""

    def rank_labels(self, probabilities: Any, top: int, /) -> list[list[tuple[Label, float]]]:
        """The likeliest classes of each row."""
