"""Loads a detection data set of any kind in two parts, for training and for validation."""

import os
from pathlib import Path
from typing import Literal, NamedTuple

from zoo.data.dataset import DatasetError
from zoo.data.files import check_folder, expand_path
from zoo.data.folders import TRAIN_NAMES, VALIDATION_NAMES
from zoo.detection.data.coco import load_coco
from zoo.detection.data.dataset import DetectionDataset
from zoo.detection.data.voc import load_voc
from zoo.detection.data.yolo import load_yolo
from zoo.runtime.checks import ArgumentError

Kind = Literal["coco", "voc", "yolo"]
KINDS = ("coco", "voc", "yolo")


class DetectionSplits(NamedTuple):
    """A detection data set in two parts with the same classes; there may be none for validation."""

    train: DetectionDataset
    val: DetectionDataset | None


def load_detection(source: str | os.PathLike[str], kind: Kind | None = None) -> DetectionSplits:
    """Loads the images and boxes of a folder, or of a JSON file.

    Args:
      source: a folder in the layout that `load_voc` or `load_yolo` describe; of COCO a JSON file,
        or a folder with `annotations/instances_train….json` and `annotations/instances_val….json`,
        or with a JSON file in each of `train` and `val` (or valid, test, …).
      kind: "coco", "voc" or "yolo"; None tells by the files that there are.

    Raises:
      ArgumentError: the kind is none of these.
      DatasetError: the source cannot be read, or its parts have not the same classes.
    """
    if kind is None:
        kind = find_kind(source)
    if kind == "voc":
        return DetectionSplits(*load_voc(source))
    if kind == "yolo":
        return DetectionSplits(*load_yolo(source))
    if kind != "coco":
        raise ArgumentError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    path = expand_path(source)
    if path.is_file():
        return DetectionSplits(load_coco(path), None)
    files = _find_json(Path(check_folder(path)))
    train, *val = [load_coco(file) for file in files]
    return DetectionSplits(train, val[0].with_classes(train.classes) if val else None)


def find_kind(source: str | os.PathLike[str]) -> Kind:
    """The kind of a data set, by the files that there are.

    Raises:
      DatasetError: they are those of no kind.
    """
    path = expand_path(source)
    if path.is_file() and path.suffix.lower() == ".json":
        return "coco"
    root = Path(check_folder(path))
    if any(root.glob("Annotations/*.xml")):
        return "voc"
    if any(root.glob("*.json")) or any(root.glob("*/*.json")):
        return "coco"
    if any((root / name).exists() for name in ("data.yaml", "classes.txt", "labels")):
        return "yolo"
    raise DatasetError(
        f"{root} has no boxes: neither JSON files of COCO, nor Annotations/*.xml of VOC, nor "
        f"data.yaml or labels of YOLO"
    )


def _find_json(root: Path) -> list[Path]:
    """The annotation files for training and for validation, or one of all images."""
    parts = [_find_part(root, names) for names in (TRAIN_NAMES, VALIDATION_NAMES)]
    if parts[0] is not None:
        return [part for part in parts if part is not None]
    every = [*root.glob("*.json"), *root.glob("annotations/*.json")]
    if len(every) == 1:
        return every
    raise DatasetError(
        f"{root} has {len(every)} JSON files, but none that is called annotations/"
        "instances_train….json, as COCO's are; give the path of one"
    )


def _find_part(root: Path, names: tuple[str, ...]) -> Path | None:
    """The annotation file of a part, by the first of its names for which there is one."""
    for name in names:
        patterns = (f"annotations/instances_{name}*.json", f"annotations/{name}*.json")
        for pattern in (*patterns, f"instances_{name}*.json", f"{name}/*.json", f"{name}*.json"):
            found = sorted(root.glob(pattern))
            if len(found) > 1:
                raise DatasetError(
                    f"{root} has several annotation files, {found[0].name} and {found[1].name}; "
                    "give the path of one"
                )
            if found:
                return found[0]
    return None
