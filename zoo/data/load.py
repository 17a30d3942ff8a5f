"""Loads a data set of any kind in two parts, for training and for validation."""

import dataclasses
import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.data.cifar import load_cifar
from zoo.data.dataset import Dataset, DatasetError
from zoo.data.digits import load_digits
from zoo.data.files import expand_path, list_some
from zoo.data.folders import load_folder
from zoo.data.groups import find_copies, join_groups
from zoo.data.idx import load_idx_set
from zoo.data.imagenet import load_imagenet, load_imagenet_validation
from zoo.data.sources import as_dataset, is_arrays
from zoo.data.tables import ENDINGS, load_table
from zoo.models.suggest import suggest
from zoo_pretrained.spelling import argument

# Of the training images, where a data set has no part for validation.
DEFAULT_VALIDATION = 0.2

Folder = str | os.PathLike[str] | None
Parts = tuple[Dataset, Dataset | None]


class Splits(NamedTuple):
    """A data set in two parts; there may be none for validation."""

    train: Dataset
    val: Dataset | None


def load(
    source: Any,
    folder: Folder = None,
    *,
    validation: float = DEFAULT_VALIDATION,
    seed: int = 0,
    group: str | re.Pattern[str] | None = None,
) -> Splits:
    r"""Loads a data set, and holds out a part of it for validation.

    Args:
      source: a folder (`zoo.data.folders.load_folder`), a CSV file (`zoo.data.tables.load_table`),
        what `as_dataset` takes, a tuple (train, val) of any two of these, or the name of a known
        set: "digits", "cifar10", "cifar100", "mnist", "fashion-mnist", "imagenet", "mura".
      folder: where a known set is. Needed for ImageNet and MURA; the others are downloaded.
      validation: how much of the training images to hold out, from 0 for none to below 1, where the
        source has no part for validation itself. It is drawn at random from each class; copies of a
        file, and images of one group (`columns["group"]`), stay together.
      seed: another one holds out others; the same one the same.
      group: a regular expression with one part in parentheses, such as r"(patient\d+)": files with
        the same part in their names are of one group. For a folder or a CSV file.

    Raises:
      DatasetError: the source is none of these or cannot be read; it has a single class; or a class
        has too few images to hold some out. The message says which.
      FetchError: a known set cannot be downloaded.
    """
    if not 0 <= validation < 1:
        raise DatasetError(
            f"{argument('validation')} must be from 0 to below 1, got {validation!r}"
        )
    train, val = _read(source, folder, group)
    if len(train.classes) < 2:
        raise DatasetError(
            f"there is one class only, {list_some(train.classes)}; to tell classes apart takes two"
        )
    if val is not None or not validation:
        return Splits(train, val)
    return Splits(*hold_out(train, validation, seed))


def load_evaluation(source: Any, folder: Folder = None) -> Dataset:
    """Loads the images to evaluate a model on: the part for validation, or else all.

    Args:
      source, folder: as of `load`. Of ImageNet, the training images need not be there.

    Raises:
      DatasetError: the source is no data set or cannot be read.
    """
    if _known_name(source) == "imagenet":
        return load_imagenet_validation(_need_folder("imagenet", folder))
    train, val = _read(source, folder, None)
    return train if val is None else val


def hold_out(dataset: Dataset, fraction: float, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Splits as `Dataset.split` does, and keeps copies of a file together, too.

    Raises:
      DatasetError: a class has too few images that are no copies of each other.
    """
    groups = dataset.columns.get("group", np.arange(len(dataset)))
    if isinstance(dataset.images, list) and all(map(_is_path, dataset.images)):
        groups = join_groups(groups, find_copies(dataset.images))
    numbers: Any = np.arange(len(dataset))
    columns = {"group": groups, "number": numbers}
    parts = dataclasses.replace(dataset, images=numbers, columns=columns).split(fraction, seed)
    rest, held_out = (dataset.select(part.columns["number"]) for part in parts)
    return rest, held_out


def _read(source: Any, folder: Folder, group: str | re.Pattern[str] | None) -> Parts:
    """The parts that a source has itself."""
    name = _known_name(source)
    if name is not None:
        _refuse(argument("group"), group, "it goes with a folder or a CSV file")
        return _KNOWN[name](folder)
    _refuse("folder", folder, "it goes with the name of a known set, such as cifar10")
    if isinstance(source, str | os.PathLike):
        return _read_path(source, group)
    if isinstance(source, tuple) and len(source) == 2 and not is_arrays(source):
        return _read_pair(*source, group)
    _refuse(
        argument("group"),
        group,
        "it goes with a folder or a CSV file; give columns['group'] instead",
    )
    return as_dataset(source), None


def _read_path(source: str | os.PathLike[str], group: str | re.Pattern[str] | None) -> Parts:
    path = expand_path(source)
    if path.suffix.lower() in ENDINGS and not path.is_dir():
        return load_table(path, group=group)
    if path.is_file():
        raise DatasetError(
            f"{path} is no data set: expected a folder, or a file of {' or '.join(ENDINGS)}"
        )
    if path.parent != Path() or path.exists():
        return load_folder(path, group=group)
    near = suggest(str(source), _KNOWN)
    raise DatasetError(
        f"there is no data set {str(source)!r}{f'; {near}' if near else ''}. Known are "
        f"{', '.join(_KNOWN)}; anything else is the path of a folder or of a CSV file that exists"
    )


def _read_pair(train: Any, val: Any, group: str | re.Pattern[str] | None) -> Parts:
    """Two sources, the second with the classes of the first."""
    (first, rest), (second, more) = _read(train, None, group), _read(val, None, group)
    if rest is not None or more is not None:
        raise DatasetError(
            "of a pair (train, val), each must be one part, but one has a part for validation "
            "itself; give the path of its train folder"
        )
    numbers = {name: number for number, name in enumerate(first.classes)}
    if unknown := [name for name in second.classes if name not in numbers]:
        raise DatasetError(
            f"val has {list_some(unknown)}, which are none of the classes of train: "
            f"{list_some(first.classes)}"
        )
    order = np.array([numbers[name] for name in second.classes])
    labels = order[second.labels]
    return first, dataclasses.replace(second, labels=labels, classes=first.classes)


def _refuse(name: str, value: Any, reason: str) -> None:
    if value is not None:
        raise DatasetError(f"{name} cannot be used here: {reason}")


def _is_path(image: Any) -> bool:
    return isinstance(image, str | os.PathLike)


def _known_name(source: Any) -> str | None:
    """A known set's name as the zoo spells it; case, hyphens and underscores do not matter."""
    if not isinstance(source, str):
        return None
    plain = {name.replace("-", ""): name for name in _KNOWN}
    return plain.get(re.sub("[-_ ]", "", source).lower())


def _need_folder(name: str, folder: Folder) -> str | os.PathLike[str]:
    if folder is None:
        raise DatasetError(
            f"{name} needs folder, where it is; it may not be downloaded by everybody"
        )
    return folder


def _load_digits(folder: Folder) -> Parts:
    _refuse("folder", folder, "the digits come with scikit-learn")
    return load_digits(), None


def _load_imagenet(folder: Folder) -> Parts:
    return load_imagenet(_need_folder("imagenet", folder))


def _load_mura(folder: Folder) -> Parts:
    from zoo.data.mura import load_mura

    return load_mura(_need_folder("mura", folder))


_KNOWN: dict[str, Callable[[Folder], Parts]] = {
    "digits": _load_digits,
    "cifar10": functools.partial(load_cifar, "cifar10"),
    "cifar100": functools.partial(load_cifar, "cifar100"),
    "mnist": functools.partial(load_idx_set, "mnist"),
    "fashion-mnist": functools.partial(load_idx_set, "fashion-mnist"),
    "imagenet": _load_imagenet,
    "mura": _load_mura,
}
