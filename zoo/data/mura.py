"""MURA, bone X-rays in which something is abnormal or not.

Rajpurkar et al. 2018, arXiv 1712.06957: 40,005 radiographs of the upper extremity, in studies of
one visit each, from https://stanfordmlgroup.github.io/competitions/mura under an agreement.
"""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo.data.dataset import Dataset, DatasetError

PARTS = ("elbow", "finger", "forearm", "hand", "humerus", "shoulder", "wrist")
CLASSES = ("negative", "positive")
FOLDER = "MURA-v1.1"

_LAYOUT = "XR_PART/patientNNNNN/studyK_{positive,negative}/imageJ.png"
_IMAGE = re.compile(r"(XR_([A-Z]+)/(patient\d+)/study\d+_(negative|positive))/[^/]+\.png")


class _Image(NamedTuple):
    """An X-ray, with what its path says; paths are below the split's folder."""

    path: str
    study: str
    patient: str
    part: str
    label: int


def load_mura(
    folder: str | os.PathLike[str], *, parts: Sequence[str] | None = None
) -> tuple[Dataset, Dataset]:
    """MURA's training and validation images, as its archive holds them.

    What `{train,valid}_image_paths.csv` lists is read, or all images of the tree where there is no
    such file. Labels are those in the names of the studies' folders; `*_labeled_studies.csv` must
    agree where it exists. Hidden files, such as Apple's "._image1.png", are left out.

    The weights are the paper's: w = N / (A + N) for positives and A / (A + N) for negatives, where
    A and N are how many abnormal and normal images (not studies) of the same body part there are
    in training. Validation images have the weights of training.

    Args:
      folder: the folder MURA-v1.1, which may have another name, or the one that it is in.
      parts: the body parts to read, of `PARTS`; None reads those that there are.

    Returns:
      (train, valid), each sorted by path, with the classes "negative" and "positive", and with
      columns: "part" ("elbow"), "study" ("XR_ELBOW/patient00011/study1_negative"), and "group", the
      patient ("patient00011"), whose studies may be of several body parts.

    Raises:
      DatasetError: a folder or file is missing or cannot be read, the files contradict each other,
        a patient is in both splits, or a body part lacks a class in training.
    """
    root = _find_root(Path(folder))
    parts = _check_parts(parts)
    try:
        splits = [_read_split(root, split, parts) for split in ("train", "valid")]
    except OSError as error:
        raise DatasetError(f"{error.filename} cannot be read: {error.strerror}") from error
    train, valid = splits
    both = {image.patient for image in train} & {image.patient for image in valid}
    if both:
        raise DatasetError(
            f"{min(both)} is in both train and valid of {root}, as {len(both)} patients are in "
            "all; remove them from one of the two"
        )
    weights = _weigh(train)
    return (
        _make_dataset(root / "train", train, weights),
        _make_dataset(root / "valid", valid, weights),
    )


def _find_root(folder: Path) -> Path:
    for root in (folder / FOLDER, folder):
        if (root / "train").is_dir() and (root / "valid").is_dir():
            return root
    raise DatasetError(
        f"{folder} has no folders train and valid, nor {FOLDER} with them; "
        "pass the folder into which MURA's archive was unpacked"
    )


def _check_parts(parts: Sequence[str] | None) -> tuple[str, ...]:
    if parts is None:
        return PARTS
    parts = (parts,) if isinstance(parts, str) else tuple(parts)
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        got = repr(unknown[0]) if unknown else "none"
        raise DatasetError(f"parts must be some of {', '.join(PARTS)}; got {got}")
    return parts


def _read_split(root: Path, split: str, parts: tuple[str, ...]) -> list[_Image]:
    """The images of some body parts, sorted by path."""
    folder, listing = root / split, root / f"{split}_image_paths.csv"
    listed = listing.is_file()
    paths = [path for _, path, _ in _read_rows(listing, split)] if listed else _walk(folder)
    parsed = (_parse(path, listing if listed else folder) for path in paths if not _is_hidden(path))
    images = sorted(image for image in parsed if image.part in parts)
    if not images:
        raise DatasetError(f"{folder} has no images of {', '.join(parts)}: {_LAYOUT}")
    if listed:
        _check_files(listing, folder, images)
    labels = root / f"{split}_labeled_studies.csv"
    if labels.is_file():
        _check_labels(labels, split, images, parts)
    return images


def _walk(folder: Path) -> Iterator[str]:
    """Yields the paths of all PNG files four folders deep, relative to a folder."""
    for part in _list_folder(folder):
        for patient in _list_folder(part):
            for study in _list_folder(patient):
                for image in _list_folder(study):
                    if image.suffix == ".png":
                        yield image.relative_to(folder).as_posix()


def _list_folder(folder: Path) -> list[Path]:
    """What is in a folder; nothing is in a file."""
    return list(folder.iterdir()) if folder.is_dir() else []


def _is_hidden(path: str) -> bool:
    return any(name.startswith(".") for name in path.split("/"))


def _read_rows(file: Path, split: str) -> Iterator[tuple[int, str, str]]:
    """Yields (line, path, label) of a file without a header: "MURA-v1.1/train/PATH,LABEL".

    The path is relative to the split's folder; the label is empty where the file has none.
    """
    try:
        rows = list(csv.reader(file.read_text("utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{file} is no CSV file in UTF-8: {error}") from error
    for line, row in enumerate(rows, start=1):
        if not row:
            continue
        path, *label = row
        archive, _, inner = path.partition(f"/{split}/")
        if not archive or not inner or "/" in archive or len(label) > 1:
            raise DatasetError(
                f"line {line} of {file} must begin with {FOLDER}/{split}/, got {','.join(row)!r}"
            )
        yield line, inner, "".join(label).strip()


def _parse(path: str, origin: Path) -> _Image:
    if not (found := _IMAGE.fullmatch(path)) or found[2].lower() not in PARTS:
        raise DatasetError(f"{path!r} of {origin} is not {_LAYOUT}; remove it, or repair its name")
    study, part, patient, label = found.groups()
    return _Image(path, study, patient, part.lower(), CLASSES.index(label))


def _check_files(listing: Path, folder: Path, images: list[_Image]) -> None:
    """Raises DatasetError where a listed image is missing, or listed twice."""
    for image, following in zip(images, [*images[1:], None], strict=True):
        if image == following:
            raise DatasetError(f"{listing} lists {image.path} twice; remove a line")
        if not (folder / image.path).is_file():
            raise DatasetError(
                f"{folder / image.path} is missing, but {listing.name} lists it; "
                "unpack MURA's archive again, or remove the line"
            )


def _check_labels(file: Path, split: str, images: list[_Image], parts: tuple[str, ...]) -> None:
    """Raises DatasetError where the labels of a file are not those of the folders' names."""
    studies = {image.study for image in images}
    unlabelled = set(studies)
    for line, path, label in _read_rows(file, split):
        image = _parse(f"{path.rstrip('/')}/image.png", file)
        if image.part not in parts:
            continue
        if label != str(image.label):
            raise DatasetError(
                f"line {line} of {file} gives {image.study} the label {label!r}, but as its name "
                f"says {CLASSES[image.label]} it must be {image.label}"
            )
        if image.study not in studies:
            raise DatasetError(f"line {line} of {file} lists {image.study}, which has no images")
        unlabelled.discard(image.study)
    if unlabelled:
        raise DatasetError(f"{file} has no label of {min(unlabelled)}")


def _weigh(images: list[_Image]) -> dict[tuple[str, int], float]:
    """The weight of each body part's classes: the share of the other class."""
    counts = Counter((image.part, image.label) for image in images)
    weights = {}
    for part in sorted({image.part for image in images}):
        for label, name in enumerate(CLASSES):
            if not counts[part, label]:
                raise DatasetError(
                    f"all training images of {part} are {CLASSES[1 - label]}; both classes are "
                    f"needed to weigh them, so add {name} ones or choose other parts"
                )
            other = counts[part, 1 - label]
            weights[part, label] = other / (other + counts[part, label])
    return weights


def _make_dataset(
    folder: Path, images: list[_Image], weights: Mapping[tuple[str, int], float]
) -> Dataset:
    for image in images:
        if (image.part, image.label) not in weights:
            raise DatasetError(
                f"{folder / image.path} shows a body part without training images; "
                "choose other parts"
            )
    return Dataset(
        images=[folder / image.path for image in images],
        labels=np.array([image.label for image in images]),
        classes=CLASSES,
        columns={
            "group": np.array([image.patient for image in images]),
            "study": np.array([image.study for image in images]),
            "part": np.array([image.part for image in images]),
        },
        weights=np.array([weights[image.part, image.label] for image in images]),
    )
