"""Data sets of other libraries, and arrays: anything indexable or iterable of (image, label)."""

import contextlib
import dataclasses
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from zoo.data.dataset import Dataset, DatasetError
from zoo.data.files import list_some
from zoo.data.tables import number_labels
from zoo.inference.images import MIN_SIDE, ImageError

# Longer ones repeat without end, as grain's do.
MAX_LENGTH = 1_000_000_000
_IMAGE_KEYS, _LABEL_KEYS = ("image", "img"), ("label",)


class LazyImages(Sequence[Any]):
    """The images of an indexable source, each read when it is asked for.

    Args:
      source: gives (image, label) for an index.
      indices: which of its images these are, and in which order; by default all.
    """

    def __init__(self, source: Any, indices: np.ndarray | None = None) -> None:
        self._source = source
        self._indices = np.arange(len(source)) if indices is None else indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: Any) -> Any:
        return _read_item(self._source, int(self._indices[index]))[0]

    def select(self, indices: np.ndarray) -> "LazyImages":
        """The images of these numbers, in this order, none of which is read."""
        return LazyImages(self._source, self._indices[indices])


def as_dataset(source: Any, classes: Sequence[str] | None = None) -> Dataset:
    """A data set of what another library, or the user, has.

    Args:
      source: one of
        - a `Dataset`;
        - a pair of arrays: images [N, H, W, C] or [N, H, W], or paths, and labels [N];
        - what has a length and gives (image, label) for an index, such as a grain source or
          `MapDataset`, or a PyTorch `Dataset`. Its images are read when they are asked for. Its
          labels are its `targets` or `labels`, or else each item is read for them, once;
        - what can be iterated over (image, label), such as a tf.data `Dataset` without batches. It
          is read into memory, once, and must end.
        Items may also be mappings with "image" and "label". An image is whatever
        `zoo.inference.images.load_image` takes, not yet normalised. Arrays whose channels come
        first, as torchvision's ToTensor makes them, are turned: fewer than 8 rows are no image.
      classes: their names, in the order of the labels. By default those in `source.classes`, or
        "class 0" and so on; labels that are names are numbered in natural order.

    Raises:
      DatasetError: it is none of these, is made of batches, or its images are normalised; a label
        is neither a number nor a name.
    """
    if isinstance(source, Dataset):
        return source if classes is None else dataclasses.replace(source, classes=tuple(classes))
    images: Sequence[Any]
    if is_arrays(source):
        images, labels = _check_arrays(source[0]), np.asarray(source[1]).tolist()
    elif hasattr(source, "__len__") and hasattr(source, "__getitem__"):
        images, labels = LazyImages(source), _read_labels(source)
    elif isinstance(source, Iterable):
        items = [_split_item(item, number) for number, item in enumerate(_iterate(source))]
        images, labels = [image for image, _ in items], [label for _, label in items]
    else:
        raise DatasetError(
            "a data set is indexable or iterable, and gives (image, label), got "
            f"{type(source).__name__}"
        )
    if not len(images):
        raise DatasetError(f"the {type(source).__name__} gives no items")
    numbers, names = _number(labels, _find_classes(source) if classes is None else classes)
    return Dataset(images=images, labels=numbers, classes=names)


def is_arrays(source: Any) -> bool:
    """Whether this is a pair of images, and an array or a list of as many labels."""
    if not isinstance(source, tuple) or len(source) != 2:
        return False
    images, labels = source
    if isinstance(images, str | bytes) or not hasattr(images, "__len__"):
        return False
    is_list = isinstance(labels, list) and all(isinstance(label, int | str) for label in labels)
    if not is_list and not (hasattr(labels, "__array__") and np.ndim(labels) == 1):
        return False
    return len(images) == len(labels)


def _read_item(source: Any, number: int) -> tuple[Any, Any]:
    """The image and the label of an item of an indexable source."""
    try:
        item = source[number]
    except OSError as error:  # of a damaged photo, as of a file in a folder
        raise ImageError(f"item {number} cannot be read: {error}") from error
    except (LookupError, TypeError) as error:
        raise DatasetError(
            f"the {type(source).__name__} has no item {number}: {error!r}; expected (image, label)"
        ) from error
    return _split_item(item, number)


def _split_item(item: Any, number: int) -> tuple[Any, Any]:
    """The image and the label in an item."""
    if isinstance(item, Mapping):
        keys = [next((key for key in k if key in item), None) for k in (_IMAGE_KEYS, _LABEL_KEYS)]
        if None in keys:
            raise DatasetError(
                f"item {number} has {list_some(map(str, item))}, expected 'image' and 'label'"
            )
        image, label = (item[key] for key in keys)
    elif isinstance(item, tuple | list) and len(item) == 2:
        image, label = item
    else:
        raise DatasetError(
            f"item {number} is a {type(item).__name__}, expected a pair (image, label)"
        )
    return _check_image(image, f"the image of item {number}"), label


def _check_image(image: Any, name: str) -> Any:
    """An image; of an array the channels come last."""
    if isinstance(image, Image.Image) or not hasattr(image, "__array__") or not np.ndim(image):
        return image
    array = np.asarray(image)
    if array.ndim == 4:
        raise DatasetError(
            f"{name} is of shape {array.shape}, a batch; give the data set without batches, such "
            "as the dataset of a DataLoader"
        )
    if array.ndim == 3 and array.shape[0] < MIN_SIDE <= array.shape[1]:
        array = np.moveaxis(array, 0, -1)
    _check_range(array, name)
    return array


def _check_arrays(images: Any) -> Any:
    """The images of a pair of arrays, whose channels come last."""
    if not hasattr(images, "__array__"):
        return images
    array = np.asarray(images)
    if array.ndim == 4 and array.shape[1] < MIN_SIDE <= array.shape[2]:
        array = np.moveaxis(array, 1, -1)
    _check_range(array, "the array of images")
    return array


def _check_range(array: np.ndarray, name: str) -> None:
    if array.dtype.kind == "f" and array.size and not 0 <= array.min() <= array.max() <= 1:
        raise DatasetError(
            f"{name} is {array.dtype} from {array.min():.3g} to {array.max():.3g}, expected 0 to "
            "1, or uint8 from 0 to 255; leave out Normalize: the model's preprocessing does that"
        )


def _read_labels(source: Any) -> list[Any]:
    """The labels of an indexable source: those that it lists, or else each item's."""
    if len(source) > MAX_LENGTH:
        raise DatasetError(f"the {type(source).__name__} repeats without end; leave out .repeat()")
    listed = _listed_labels(source)
    if listed is not None and _gives(source, listed):
        return listed
    return [_read_item(source, number)[1] for number in range(len(source))]


def _gives(source: Any, labels: Sequence[Any]) -> bool:
    """Whether a source gives the labels that it lists, by the first item that can be read.

    It gives others where it changes them on the way.
    """
    for number, label in enumerate(labels):
        with contextlib.suppress(ImageError):
            return bool(_read_item(source, number)[1] == label)
    return True


def _listed_labels(source: Any) -> list[Any] | None:
    """The labels that PyTorch's data sets list by convention, or the part that a `Subset` has."""
    if hasattr(source, "dataset") and hasattr(source, "indices"):
        whole = _listed_labels(source.dataset)
        return None if whole is None else [whole[index] for index in source.indices]
    if getattr(source, "target_transform", None) is not None:
        return None
    for name in ("targets", "labels"):
        try:
            values = np.asarray(getattr(source, name, None))
        except ValueError:  # of several lengths
            continue
        if values.ndim == 1 and values.dtype.kind in "iuU" and len(values) == len(source):
            return values.tolist()
    return None


def _iterate(source: Any) -> Iterator[Any]:
    """The items of an iterable, as NumPy arrays where tf.data can give them so."""
    return source.as_numpy_iterator() if hasattr(source, "as_numpy_iterator") else iter(source)


def _find_classes(source: Any) -> Sequence[str] | None:
    classes = getattr(getattr(source, "dataset", source), "classes", None)
    if isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes):
        return classes
    return None


def _number(labels: list[Any], classes: Sequence[str] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """The labels as numbers, and the names of the classes."""
    if all(isinstance(label, str) for label in labels):
        if classes is None:
            return number_labels(labels)
        if unknown := sorted(set(labels) - set(classes)):
            raise DatasetError(f"labels are none of the classes: {list_some(unknown)}")
        numbers = [list(classes).index(label) for label in labels]
    else:
        numbers = [_to_number(label, position) for position, label in enumerate(labels)]
    if classes is None:
        classes = [f"class {number}" for number in range(max(numbers) + 1)]
    return np.array(numbers, int), tuple(classes)


def _to_number(label: Any, position: int) -> int:
    try:
        return operator.index(label)
    except TypeError:
        got = f"an array {np.shape(label)}" if np.ndim(label) else repr(label)
        raise DatasetError(
            f"the label of item {position} is {got}, expected the number of a class, or its name"
        ) from None
