"""Data sets in folders: a folder for each class, beneath `train` and `val` or by themselves."""

import dataclasses
import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from zoo.data.dataset import Dataset, DatasetError
from zoo.data.files import check_folder, list_folders, list_images, list_some
from zoo.data.groups import guess_groups, match_groups

# What the parts of a data set are called, in any case; the first that is there is taken.
TRAIN_NAMES = ("train", "training")
VALIDATION_NAMES = ("val", "valid", "validation", "test", "testing")


def load_folder(
    folder: str | os.PathLike[str], *, group: str | re.Pattern[str] | None = None
) -> tuple[Dataset, Dataset | None]:
    r"""The images of a folder that has a folder for each class.

    These are `DIR/train/CLASS/…` with `DIR/val/CLASS/…` (or valid, validation, test), or
    `DIR/CLASS/…`. Images may lie in folders of any depth below that of their class: photos, and
    arrays [H, W, C] in `.npy` files. Classes are in natural order: "class 2" is before "class 10".

    Args:
      folder: the folder.
      group: a regular expression with one part in parentheses, r"(patient\d+)", which is looked for
        in the path below the class's folder; images with the same part belong together
        (`columns["group"]`). By default groups are guessed from names with several numbers:
        `zoo.data.groups.guess_groups` says how.

    Returns:
      The training images, and those for validation; None where they are not told apart.

    Raises:
      DatasetError: the folder cannot be read, has another layout, or has a class without images;
        train and val have not the same classes.
    """
    root = check_folder(folder)
    parts = _find_parts(root)
    if not parts:
        return _add_groups(read_classes(root), root, group), None
    train = _add_groups(read_classes(parts[0]), parts[0], group)
    if len(parts) == 1:
        return train, None
    validation = _add_groups(read_classes(parts[1]), parts[1], group)
    _check_same_classes(parts, train.classes, validation.classes)
    return train, validation


def read_classes(folder: str) -> Dataset:
    """The images of a folder whose folders are the classes.

    Raises:
      DatasetError: there are no such folders, one cannot be read, or one has no images.
    """
    classes = list_folders(folder)
    found = [list_images(str(Path(folder, name))) for name in classes]
    if not any(found):
        raise DatasetError(_describe_layout(folder, classes))
    if empty := [name for name, images in zip(classes, found, strict=True) if not images]:
        raise DatasetError(
            f"{folder} has no images of {list_some(empty)}; put images there, or remove the folder"
        )
    return Dataset(
        images=[path for images in found for path in images],
        labels=np.repeat(np.arange(len(classes)), [len(images) for images in found]),
        classes=tuple(classes),
    )


def find_name(wanted: Iterable[str], names: Iterable[str]) -> str | None:
    """The first of the wanted names that is among some names, in any case, as it is spelt there."""
    by_lower = {name.lower(): name for name in names}
    return next((by_lower[name] for name in wanted if name in by_lower), None)


def _find_parts(root: str) -> list[str]:
    """The folders for training and for validation, the first alone, or none of them."""
    names = list_folders(root)
    known = (*TRAIN_NAMES, *VALIDATION_NAMES)
    others = [name for name in names if name.lower() not in known]
    train = find_name(TRAIN_NAMES, names)
    if train is None:
        if names and not others:
            raise DatasetError(
                f"{root} has {list_some(names)}, but no train folder; give the path of one of them"
            )
        return []
    if others and not list_folders(str(Path(root, train))):
        return []  # a class of this name
    validation = find_name(VALIDATION_NAMES, names)
    return [str(Path(root, name)) for name in (train, validation) if name]


def _describe_layout(folder: str, classes: list[str]) -> str:
    expected = f"expected {Path(folder, 'CLASS', 'photo.jpg')}, with a folder for each class"
    if list_images(folder, below=False):
        return f"{folder} has images, but no folders of classes; {expected}"
    if classes:
        return (
            f"there are no images in {folder}, whose folders are {list_some(classes)}; {expected}"
        )
    return f"{folder} has no folders of classes; {expected}"


def _check_same_classes(
    parts: list[str], train: tuple[str, ...], validation: tuple[str, ...]
) -> None:
    for folder, other, lacking in (
        (parts[0], parts[1], [name for name in validation if name not in train]),
        (parts[1], parts[0], [name for name in train if name not in validation]),
    ):
        if lacking:
            raise DatasetError(
                f"{folder} lacks {list_some(lacking)} of the classes in {other}; both need the "
                "same folders"
            )


def _add_groups(dataset: Dataset, folder: str, pattern: str | re.Pattern[str] | None) -> Dataset:
    """Adds the column "group" where names tell one."""
    prefixes = [len(str(Path(folder, name))) + 1 for name in dataset.classes]
    names = [
        str(path)[prefixes[label] :].replace(os.sep, "/")
        for path, label in zip(dataset.images, dataset.labels, strict=True)
    ]
    if pattern is not None:
        groups: np.ndarray | None = match_groups(names, pattern)
    else:
        groups = guess_groups(names, dataset.labels)
    columns = {} if groups is None else {"group": groups}
    return dataclasses.replace(dataset, columns=columns)
