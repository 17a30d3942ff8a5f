"""What a detection data set is: photos with labelled boxes, read one by one."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from zoo.data.dataset import DatasetError
from zoo.data.files import list_some
from zoo.inference.images import ImageSource
from zoo.runtime.checks import check_number


class DetectionExample(NamedTuple):
    """An image and its n boxes.

    Args:
      image: a path or an array.
      boxes: float32 [n, 4], as (x1, y1, x2, y2) in pixels of the image.
      labels: the number of each box's class, int32 [n].
      crowd: whether a box surrounds a group, or is to be ignored for another reason, bool [n].
      areas: of the objects, in square pixels, float64 [n].
    """

    image: ImageSource
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class DetectionDataset:
    """Images with labelled boxes: `dataset[i]` is a `DetectionExample`.

    Args:
      images: paths, or arrays [H, W, 3] in uint8. Only what is asked for is read.
      boxes: of each image, float32 [n, 4], as (x1, y1, x2, y2) in absolute pixels of the upright
        image; an image may have none.
      labels: of each image, the class numbers of its boxes, int32 [n].
      classes: the names of the classes, in the order of their numbers.
      crowd: of each image, whether a box is a group's or else to be ignored, bool [n]. Evaluation
        counts neither finding nor missing it; `without_crowd` leaves it out for training. By
        default none is.
      areas: of each image, the areas of the objects in square pixels, float64 [n], by which
        evaluation tells small, medium and large ones; by default those of the boxes.
      skipped: messages on what a reader left out, and why.
      clipped: how many boxes a reader cut off at the edge of their image.

    Raises:
      DatasetError: the lengths differ, a box has no area or is not finite, or a label is not the
        number of a class.
    """

    images: Sequence[ImageSource]
    boxes: Sequence[np.ndarray]
    labels: Sequence[np.ndarray]
    classes: tuple[str, ...]
    crowd: Sequence[np.ndarray] = ()
    areas: Sequence[np.ndarray] = ()
    skipped: tuple[str, ...] = ()
    clipped: int = 0

    def __post_init__(self) -> None:
        """Checks that all have one length, that boxes have areas, and labels classes."""
        boxes = [_as_array(f"boxes[{i}]", part, (4,), "f") for i, part in enumerate(self.boxes)]
        counts = [len(part) for part in boxes]
        joined = np.concatenate([np.zeros((0, 4), np.float32), *boxes]).astype(np.float32)
        sides = joined[:, 2:] - joined[:, :2]
        if (wrong := np.flatnonzero(~(np.isfinite(joined).all(1) & (sides > 0).all(1)))).size:
            image = int(np.searchsorted(np.cumsum(counts), wrong[0], side="right"))
            raise DatasetError(
                f"boxes[{image}] has {joined[wrong[0]].tolist()}, expected finite (x1, y1, x2, y2) "
                "with x1 < x2 and y1 < y2"
            )
        areas: Any = self.areas if len(self.areas) else np.split(np.prod(sides, 1), _ends(counts))
        crowd: Any = self.crowd if len(self.crowd) else [np.zeros(n, bool) for n in counts]
        fields = {
            "boxes": np.split(joined, _ends(counts)) if counts else [],
            "labels": _as_arrays("labels", self.labels, counts, "iu", np.int32),
            "crowd": _as_arrays("crowd", crowd, counts, "b", bool),
            "areas": _as_arrays("areas", areas, counts, "fiu", np.float64) if counts else [],
            "classes": tuple(self.classes),
        }
        if len(counts) != len(self.images):
            raise DatasetError(
                f"there are {len(self.images)} images, but boxes of {len(counts)} images"
            )
        numbers = np.concatenate([np.zeros(0, np.int32), *fields["labels"]])
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(self.classes):
            raise DatasetError(
                f"labels must be from 0 to {len(self.classes) - 1}, as there are "
                f"{len(self.classes)} classes; got {numbers.min()} to {numbers.max()}"
            )
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> DetectionExample:
        return DetectionExample(
            self.images[index],
            self.boxes[index],
            self.labels[index],
            self.crowd[index],
            self.areas[index],
        )

    @property
    def weights(self) -> None:
        """All images count alike."""
        return None

    @property
    def label_bytes(self) -> bytes:
        """What tells data sets of the same images apart."""
        return b"".join(part.tobytes() for part in (*self.boxes, *self.labels))

    def load(
        self, index: int, transform: Callable[..., Any], random: np.random.Generator
    ) -> tuple[np.ndarray, Any]:
        """The pixels that a transform makes of an image, and the rest of the sample."""
        sample = transform(self.images[index], self.boxes[index], self.labels[index], random)
        return sample.image, sample._replace(image=np.zeros((), np.uint8))

    def name_of(self, index: int) -> str:
        """What messages call an image: its path, or its number."""
        image = self.images[index]
        return str(image) if isinstance(image, str | os.PathLike) else f"image {index}"

    def count_boxes(self) -> np.ndarray:
        """How many boxes each class has [classes]."""
        joined = np.concatenate([np.zeros(0, np.int32), *self.labels])
        return np.bincount(joined, minlength=len(self.classes))

    def select(self, indices: Sequence[int] | np.ndarray) -> Self:
        """The images of these numbers, in this order, without what was noted in reading them."""
        numbers = np.asarray(indices, int).tolist()
        names = ("images", "boxes", "labels", "crowd", "areas")
        parts: dict[str, Any] = {n: [getattr(self, n)[i] for i in numbers] for n in names}
        return dataclasses.replace(self, **parts, skipped=(), clipped=0)

    def split(self, fraction: float, seed: int = 0) -> tuple[Self, Self]:
        """Two parts: the rest, and a random `fraction` of the images, rounded, at least one.

        Args:
          fraction: between 0 and 1.
          seed: another one splits otherwise; the same one splits alike.

        Raises:
          ArgumentError: the fraction is out of range.
          DatasetError: there is only one image.
        """
        check_number("fraction", fraction, 0, 1, included=False)
        if len(self) < 2:
            raise DatasetError(f"a set of {len(self)} images cannot be split")
        count = min(max(round(fraction * len(self)), 1), len(self) - 1)
        order = np.random.default_rng(seed).permutation(len(self))
        return self.select(np.sort(order[count:])), self.select(np.sort(order[:count]))

    def without_crowd(self) -> Self:
        """The same images without the boxes that are marked as crowd: what training takes."""
        kept = [np.flatnonzero(~crowd) for crowd in self.crowd]
        parts: dict[str, Any] = {
            name: [part[rows] for part, rows in zip(getattr(self, name), kept, strict=True)]
            for name in ("boxes", "labels", "crowd", "areas")
        }
        return dataclasses.replace(self, **parts)

    def with_classes(self, classes: Sequence[str]) -> Self:
        """The same boxes with other class numbers: those of a model, say, found by name.

        Args:
          classes: the names in the order of their new numbers; there may be more than needed.

        Raises:
          DatasetError: a class that has boxes is not among them.
        """
        numbers = {name: number for number, name in reversed(list(enumerate(classes)))}
        used = np.flatnonzero(self.count_boxes())
        if unknown := [self.classes[i] for i in used if self.classes[i] not in numbers]:
            raise DatasetError(
                f"there are boxes of {list_some(unknown)}, which are none of the {len(classes)} "
                f"classes {list_some(classes)}"
            )
        order = np.array([numbers.get(name, -1) for name in self.classes], np.int32)
        labels = [order[part] for part in self.labels]
        return dataclasses.replace(self, labels=labels, classes=tuple(classes))


def _as_array(name: str, value: Any, shape: tuple[int, ...], kinds: str) -> np.ndarray:
    """A value as an array [n, …]; an empty one may have any shape and type."""
    array = np.asarray(value)
    if array.size == 0:
        return np.zeros((0, *shape), np.float32)
    if array.dtype.kind not in f"{kinds}iu" or array.shape[1:] != shape:
        expected = ", ".join(["n", *map(str, shape)])
        raise DatasetError(
            f"{name} must be an array [{expected}], got {array.dtype} of shape {array.shape}"
        )
    return array


def _as_arrays(
    name: str, values: Sequence[Any], counts: list[int], kinds: str, dtype: Any
) -> list[np.ndarray]:
    """One array for each image, of as many values as it has boxes."""
    if len(values) != len(counts):
        raise DatasetError(f"there are boxes of {len(counts)} images, but {name} of {len(values)}")
    arrays = [_as_array(f"{name}[{i}]", value, (), kinds) for i, value in enumerate(values)]
    for index, (array, count) in enumerate(zip(arrays, counts, strict=True)):
        if len(array) != count:
            raise DatasetError(f"image {index} has {count} boxes, but {len(array)} {name}")
    return [array.astype(dtype) for array in arrays]


def _ends(counts: list[int]) -> np.ndarray:
    """Where to split what was concatenated."""
    return np.cumsum(counts[:-1], dtype=int)
