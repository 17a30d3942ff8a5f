"""Annotations as YOLO has them: a text file for each image, a line for each box."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.data.dataset import DatasetError
from zoo.data.files import check_folder, list_images
from zoo.data.folders import TRAIN_NAMES, VALIDATION_NAMES, find_name
from zoo.detection.data.collect import Collector, join_inside, read_size, read_text
from zoo.detection.data.dataset import DetectionDataset
from zoo.runtime.extras import require

MAX_BYTES = 16 << 20  # of one image's labels
SETTINGS = ("data.yaml", "data.yml", "dataset.yaml")
NAMES = ("classes.txt", "obj.names", "_darknet.labels")


def load_yolo(
    folder: str | os.PathLike[str],
) -> tuple[DetectionDataset, DetectionDataset | None]:
    """The images and boxes of a folder in YOLO's layout.

    A box is a line "class cx cy width height": the number of its class, and its centre and size as
    shares of the upright image's width and height. The labels of `images/a.jpg` are in
    `labels/a.txt`, or beside the image; an image without such a file has no boxes.

    The classes' names are in `data.yaml` (a list or a mapping `names`) or, one a line, in
    `classes.txt`. The images are in the folders that data.yaml names as `train` and `val`; else in
    `images/train` and `images/val`, in `train/images` and `val/images`, or in `images`. Its `path`
    is ignored: all is below the folder.

    Returns:
      The training images, and those for validation; None where they are not told apart.

    Raises:
      DatasetError: the folder has another layout, or names paths that leave it; a file cannot be
        read, which names its line; no box can be used.
    """
    root = Path(check_folder(folder))
    settings_file = next((root / name for name in SETTINGS if (root / name).is_file()), None)
    settings = _read_settings(settings_file) if settings_file else {}
    classes = _read_classes(root, settings_file, settings)
    parts = _list_parts(root, settings_file, settings)
    loaded = [_load_part(root, part, classes) for part in parts]
    return loaded[0], loaded[1] if len(loaded) > 1 else None


def _read_settings(path: Path) -> Mapping[Any, Any]:
    yaml = require("yaml", "train")
    text = read_text(path, MAX_BYTES)
    try:
        settings = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f": line {mark.line + 1}" if mark else ""
        raise DatasetError(
            f"{path}{line} is no YAML: {getattr(error, 'problem', None) or error}"
        ) from error
    except (ValueError, RecursionError) as error:  # of dates that are none, or nested too deeply
        raise DatasetError(f"{path} is no YAML that can be read: {error}") from error
    if not isinstance(settings, dict):
        raise DatasetError(f"{path} has no entries such as names and train")
    return settings


def _read_classes(root: Path, path: Path | None, settings: Mapping[Any, Any]) -> list[str]:
    if path is not None:
        names = settings.get("names")
        if isinstance(names, dict) and set(names) == set(range(len(names))):
            names = [names[number] for number in range(len(names))]
        if not isinstance(names, list) or not names:
            raise DatasetError(
                f"{path} has no names of classes: expected a list, or a mapping from 0, 1, …"
            )
        return [str(name) for name in names]
    file = next((root / name for name in NAMES if (root / name).is_file()), None)
    if file is None:
        raise DatasetError(f"{root} has neither {' nor '.join((*SETTINGS[:1], *NAMES))}")
    return [line.strip() for line in read_text(file, MAX_BYTES).splitlines() if line.strip()]


def _list_parts(root: Path, path: Path | None, settings: Mapping[Any, Any]) -> list[Path]:
    """The folders of the images for training and for validation, or of all images."""
    named = [settings.get(key) for key in ("train", "val")]
    if path is not None and named[0]:
        return [_resolve(root, path, value) for value in named if value]
    for pattern in ("images/{}", "{}/images"):
        parent = root / pattern.partition("{}")[0]
        listed = [entry.name for entry in parent.iterdir()] if parent.is_dir() else []
        found = [find_name(names, listed) for names in (TRAIN_NAMES, VALIDATION_NAMES)]
        parts = [root / pattern.format(name) for name in found if name]
        if parts and all(part.is_dir() for part in parts):
            return parts
    return [root / "images" if (root / "images").is_dir() else root]


def _resolve(root: Path, path: Path, value: Any) -> Path:
    """A folder that data.yaml names."""
    if not isinstance(value, str):
        raise DatasetError(f"{path}: {value!r} is not supported, expected the path of one folder")
    inside = value.removeprefix("../")  # as Roboflow writes, from within a part's folder
    part = join_inside(root, inside if (root / inside).is_dir() else value, str(path))
    return Path(check_folder(part))


def _load_part(root: Path, folder: Path, classes: list[str]) -> DetectionDataset:
    collector = Collector(classes)
    read: set[Path] = set()
    for path in list_images(str(folder)):
        labels = _find_labels(root, Path(path))
        read.add(labels)
        try:
            size = read_size(path)
        except DatasetError as error:
            collector.skipped.append(str(error))
            continue
        image = collector.add_image(path, size)
        if labels.is_file():
            _add_boxes(collector, labels, image, size)
    for parent in sorted({path.parent for path in read}):
        left = (path for path in parent.glob("*.txt") if path.name not in NAMES)
        collector.skipped += [f"{path}: there is no such image" for path in sorted({*left} - read)]
    return collector.finish(folder)


def _find_labels(root: Path, image: Path) -> Path:
    """Where the labels of an image are: in "labels" for "images", or beside it."""
    parts = list(image.relative_to(root).parts)
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        parts[last] = "labels"
        beside = root.joinpath(*parts).with_suffix(".txt")
        if beside.parent.is_dir():
            return beside
    return image.with_suffix(".txt")


def _add_boxes(collector: Collector, labels: Path, image: int, size: tuple[int, int]) -> None:
    width, height = size
    names = {float(number): name for number, name in enumerate(collector.classes or ())}
    for number, line in enumerate(read_text(labels, MAX_BYTES).splitlines(), 1):
        if not line.strip():
            continue
        where = f"{labels}: line {number}"
        try:
            label, x, y, w, h = map(float, line.split())
        except ValueError:
            collector.skip(where, f"{line[:100]!r} is no box, expected class cx cy width height")
            continue
        name = names.get(label, f"{label:g}")
        box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
        if problem := collector.add_box(image, box, name):
            collector.skip(where, problem)
