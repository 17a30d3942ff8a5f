"""What a data set is: labelled images that are read one by one."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from zoo.inference.images import ImageSource
from zoo_pretrained.printable import OneLineError


class DatasetError(OneLineError, ValueError):
    """A data set cannot be used; the message names the file or the value, and what to do."""


class Example(NamedTuple):
    """An image, and the number of its class."""

    image: ImageSource
    label: int


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """Labelled images that are read one by one: `dataset[i]` is an `Example`.

    Args:
      images: paths, encoded bytes, or arrays [H, W], or [H, W, C] of any number of channels. Only
        what is asked for is read.
      labels: the number of each image's class [N].
      classes: the names of the classes, in the order of their numbers.
      columns: further facts of each image, each an array [N]. The column "group" says which images
        belong together (of one patient, say), and are never split.
      weights: of each image in the loss [N]; None weighs all alike.
    """

    images: Sequence[ImageSource] | np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Checks that all have one length, and that the labels are of the classes."""
        labels = np.asarray(self.labels)
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise DatasetError(
                f"labels must be class numbers [N], got {labels.dtype} of shape {labels.shape}"
            )
        lengths = {"labels": len(labels)} | {name: len(c) for name, c in self.columns.items()}
        if self.weights is not None:
            lengths["weights"] = len(self.weights)
        for name, length in lengths.items():
            if length != len(self.images):
                raise DatasetError(f"there are {len(self.images)} images, but {length} {name}")
        if labels.size and not 0 <= labels.min() <= labels.max() < len(self.classes):
            raise DatasetError(
                f"labels must be from 0 to {len(self.classes) - 1}, as there are "
                f"{len(self.classes)} classes; got {labels.min()} to {labels.max()}"
            )
        object.__setattr__(self, "labels", labels.astype(np.int32))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Example:
        return Example(self.images[index], int(self.labels[index]))

    @property
    def label_bytes(self) -> bytes:
        """What tells data sets of the same images apart."""
        return self.labels.tobytes()

    def load(
        self, index: int, transform: Callable[..., np.ndarray], random: np.random.Generator
    ) -> tuple[np.ndarray, int]:
        """The pixels that a transform makes of an image, and the image's label."""
        return transform(self.images[index], random), int(self.labels[index])

    def name_of(self, index: int) -> str:
        """What messages call an image: its path, or its number."""
        if hasattr(self.images, "select"):  # reading it may take long, or fail
            return f"image {index}"
        image: Any = self.images[index]
        is_path = isinstance(image, str) or hasattr(image, "__fspath__")
        return str(image) if is_path else f"image {index}"

    def count_classes(self) -> np.ndarray:
        """How many images each class has [classes]."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def select(self, indices: Sequence[int] | np.ndarray) -> Self:
        """The images of these numbers, in this order."""
        indices = np.asarray(indices, int)
        return dataclasses.replace(
            self,
            images=_select(self.images, indices),
            labels=self.labels[indices],
            columns={name: np.asarray(column)[indices] for name, column in self.columns.items()},
            weights=None if self.weights is None else np.asarray(self.weights)[indices],
        )

    def split(self, fraction: float, seed: int = 0) -> tuple[Self, Self]:
        """Two parts: the rest, and a random `fraction` of each class.

        Images of one group (`columns["group"]`) come into one part, so that with groups the
        fraction is met only nearly.

        Args:
          fraction: how many of the images the second part gets, between 0 and 1.
          seed: another one splits otherwise; the same one splits alike.

        Raises:
          DatasetError: the fraction is out of range, or a part would lack a class.
        """
        if not 0 < fraction < 1:
            raise DatasetError(f"fraction must be between 0 and 1, got {fraction!r}")
        groups = self.columns.get("group", np.arange(len(self)))
        chosen = _draw_groups(np.asarray(groups), self.labels, fraction, seed)
        parts = self.select(np.flatnonzero(~chosen)), self.select(np.flatnonzero(chosen))
        for part, name in zip(parts, ("training", "validation"), strict=True):
            if missing := np.flatnonzero(
                (self.count_classes() > 0) & (part.count_classes() == 0)
            ).tolist():
                raise DatasetError(
                    f"class {self.classes[missing[0]]!r} has too few images or groups to be split: "
                    f"none of its {self.count_classes()[missing[0]]} would be in the {name} part"
                )
        return parts


def _select(items: Any, indices: np.ndarray) -> Any:
    if hasattr(items, "select"):  # of images that are read only when they are asked for
        return items.select(indices)
    return items[indices] if isinstance(items, np.ndarray) else [items[index] for index in indices]


def _draw_groups(groups: np.ndarray, labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Which images are drawn [N]: whole groups at random, until each class has its fraction.

    A group belongs to the rarest of its images' classes, so that rare classes are met best.
    """
    random = np.random.default_rng(seed)
    _, group = np.unique(groups, return_inverse=True)
    counts = np.bincount(labels)
    chosen = np.zeros(len(labels), bool)
    rarest = np.full(group.max(initial=-1) + 1, -1)
    for label in np.argsort(-counts, kind="stable"):  # the rarest overwrites the others
        rarest[group[labels == label]] = label
    sizes = np.bincount(group)
    for label in np.flatnonzero(counts):
        members = random.permutation(np.flatnonzero(rarest == label))
        if len(members) < 2:
            continue
        cumulative = np.cumsum(sizes[members])
        count = int(np.searchsorted(cumulative, fraction * cumulative[-1]) + 1)
        chosen |= np.isin(group, members[: min(count, len(members) - 1)])
    return chosen
