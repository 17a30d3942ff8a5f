"""ImageNet of the challenge of 2012 (ILSVRC), its classes in the order of the zoo's labels.

Olga Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", 2015.
"""

import csv
import dataclasses
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from zoo.data.dataset import Dataset, DatasetError
from zoo.data.files import check_folder, list_folders, list_images, list_some
from zoo.data.folders import read_classes
from zoo.runtime.extras import require
from zoo_pretrained import catalogue

# Where the parts are: as they are unpacked by most, and as Kaggle's archive has them.
_PLACES = ("{}", "ILSVRC2012_img_{}", "ILSVRC/Data/CLS-LOC/{}", "Data/CLS-LOC/{}")
_SYNSET = re.compile(r"n\d{8}")
_VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.jpeg", re.IGNORECASE)
_DEVKITS = ("ILSVRC2012_devkit_t12/data", "devkit/data", "")
_TRUTH, _META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
_KAGGLE = "LOC_val_solution.csv"
_LISTS = ("synset_labels.txt", "imagenet_2012_validation_synset_labels.txt")


def load_imagenet(
    folder: str | os.PathLike[str], *, partial: bool = False
) -> tuple[Dataset, Dataset]:
    """ImageNet's training and validation images.

    Args:
      folder: has `train/nXXXXXXXX/*.JPEG`, and `val` as `load_imagenet_validation` reads it.
      partial: whether images of some of the 1,000 classes will do.

    Raises:
      DatasetError: a part is missing, has another layout, or lacks a class.
    """
    train = _find_part(folder, "train")
    if train is None:
        raise DatasetError(f"{folder} has no train/nXXXXXXXX/*.JPEG, the photos of ImageNet")
    return (
        _check_complete(_read_synsets(train), train, partial),
        load_imagenet_validation(folder, partial=partial),
    )


def load_imagenet_validation(folder: str | os.PathLike[str], *, partial: bool = False) -> Dataset:
    """ImageNet's validation images.

    They are in folders named by synsets, or all in one folder by their numbers. Then the labels
    come from the first of these that lies there or in the folder above: the devkit of 2012
    (`ILSVRC2012_devkit_t12`), Kaggle's `LOC_val_solution.csv`, or `synset_labels.txt`, which has a
    line for each image.

    Args:
      folder: has `val`, or is it.
      partial: whether images of some of the 1,000 classes will do.

    Raises:
      DatasetError: there are no such images or labels, or a class is missing.
    """
    place = _find_part(folder, "val") or check_folder(folder)
    if any(map(_SYNSET.fullmatch, list_folders(place))):
        dataset = _read_synsets(place)
    else:
        dataset = _read_flat(place, [place, check_folder(folder), str(Path(place).parent)])
    return _check_complete(dataset, place, partial)


def _find_part(folder: str | os.PathLike[str], part: str) -> str | None:
    root = Path(check_folder(folder))
    places = [root / place.format(part) for place in _PLACES]
    return next((str(place) for place in places if place.is_dir()), None)


def _classes() -> tuple[str, ...]:
    return tuple(label.name for label in catalogue.labels("imagenet1k"))


def _numbers() -> dict[str, int]:
    """The number of each synset's class."""
    return {label.synset: number for number, label in enumerate(catalogue.labels("imagenet1k"))}


def _read_synsets(folder: str) -> Dataset:
    dataset, numbers = read_classes(folder), _numbers()
    if unknown := [name for name in dataset.classes if name not in numbers]:
        raise DatasetError(
            f"{folder} has folders that are none of ImageNet's 1,000 synsets, such as n01440764: "
            f"{list_some(unknown)}"
        )
    order = np.array([numbers[name] for name in dataset.classes])
    return dataclasses.replace(dataset, labels=order[dataset.labels], classes=_classes())


def _read_flat(folder: str, places: Sequence[str]) -> Dataset:
    """The validation images that lie in one folder, with labels that lie in one of the places."""
    images = list_images(folder, below=False)
    matches = [_VALIDATION_NAME.fullmatch(Path(image).name) for image in images]
    if not images or not all(matches):
        raise DatasetError(
            f"{folder} has neither folders named by synsets, such as n01440764, nor images named "
            "ILSVRC2012_val_00000001.JPEG"
        )
    synsets, numbers = _find_validation_synsets(folder, places), _numbers()
    try:
        labels = [numbers[synsets[int(match[1])]] for match in matches if match]
    except KeyError as error:
        raise DatasetError(f"the labels of the images in {folder} lack {error}") from None
    return Dataset(images=images, labels=np.array(labels), classes=_classes())


def _find_validation_synsets(folder: str, places: Sequence[str]) -> dict[int, str]:
    """The synset of each validation image by its number."""
    readers: list[tuple[str, Callable[[Path], dict[int, str]]]] = [
        *((f"{devkit}/{_TRUTH}".lstrip("/"), _read_devkit) for devkit in _DEVKITS),
        (_KAGGLE, _read_kaggle),
        *((name, _read_list) for name in _LISTS),
    ]
    for name, read in readers:
        for place in places:
            if (file := Path(place, name)).is_file():
                try:
                    return read(file)
                except (OSError, ValueError, KeyError, IndexError) as error:
                    raise DatasetError(f"{file} holds no labels of ImageNet: {error}") from error
    raise DatasetError(
        f"there are no labels for the images in {folder}: put ILSVRC2012_devkit_t12, {_KAGGLE} or "
        f"{_LISTS[0]} beside it, or the images into folders named by synsets"
    )


def _read_devkit(truth: Path) -> dict[int, str]:
    """Line n of the ground truth is the ILSVRC2012_ID of image n; `meta.mat` has the IDs' synsets.

    The IDs are not in the order of the synsets.
    """
    meta = require("scipy.io", "train").loadmat(truth.with_name(_META), squeeze_me=True)
    rows = np.atleast_1d(meta["synsets"])
    synsets = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows}
    lines = truth.read_text(encoding="utf-8").split()
    return {number: synsets[int(line)] for number, line in enumerate(lines, start=1)}


def _read_kaggle(file: Path) -> dict[int, str]:
    """Each line has an image's name, and behind the comma first its synset, then boxes."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(stream)
        return {
            int(row["ImageId"].rpartition("_")[2]): row["PredictionString"].split()[0]
            for row in rows
        }


def _read_list(file: Path) -> dict[int, str]:
    lines = file.read_text(encoding="utf-8-sig").split()
    if wrong := [line for line in lines if not _SYNSET.fullmatch(line)]:
        raise ValueError(f"{wrong[0]!r} is no synset")
    return dict(enumerate(lines, start=1))


def _check_complete(dataset: Dataset, folder: str, partial: bool) -> Dataset:
    labels = catalogue.labels("imagenet1k")
    missing = [labels[number].synset for number in np.flatnonzero(dataset.count_classes() == 0)]
    if missing and not partial:
        raise DatasetError(
            f"{folder} has no images of {len(missing)} of ImageNet's 1,000 classes: "
            f"{list_some(missing)}; partial=True takes what there is"
        )
    return dataset
