"""Annotations as COCO has them: one JSON file (cocodataset.org, "Data format")."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo.data.dataset import DatasetError
from zoo.data.files import expand_path
from zoo.detection.data.collect import (
    Collector,
    check_images_exist,
    join_inside,
    read_size,
    read_text,
)
from zoo.detection.data.dataset import DetectionDataset
from zoo_pretrained.temporary import temporary_folder

MAX_BYTES = 2 << 30  # LVIS has 1.1 GiB, COCO itself 0.5

_SPACE = re.compile(r"[\s,:]*")  # between the values of a JSON text


def load_coco(
    annotations: str | os.PathLike[str], images_folder: str | os.PathLike[str] | None = None
) -> DetectionDataset:
    """The images and boxes that a JSON file of COCO's format lists.

    Classes are in the order of the categories' ids, without gaps. Boxes are [x, y, width, height]
    in pixels, counted from 0 at the left and upper edges. Boxes of an unknown category or image,
    without an area or outside of their image are left out, and named in `skipped` by their id, and
    by the line where the file has several; others are clipped to their image.

    Args:
      annotations: the JSON file.
      images_folder: what its `file_name`s are relative to. By default it is found near the file:
        "train2017" or "images/train2017" for "annotations/instances_train2017.json", "images", or
        the file's own folder.

    Raises:
      DatasetError: the file is not of this format, which names the line; it lists images that do
        not exist, or that are not below the folder; no box can be used.
    """
    path = expand_path(annotations)
    content = _read(path)
    images = _list(path, content, "images")
    categories = {
        _get(path, "categories", category, "id"): str(_get(path, "categories", category, "name"))
        for category in _list(path, content, "categories")
    }
    if not images:
        raise DatasetError(f"{path} lists no images")
    names = [str(_get(path, "images", image, "file_name")) for image in images]
    folder = _find_folder(path, names[0]) if images_folder is None else expand_path(images_folder)
    files = [str(join_inside(folder, name, str(path))) for name in names]
    check_images_exist(path, files)
    collector = Collector([categories[number] for number in _sort_ids(path, categories)])
    numbers: dict[Any, int] = {}
    for image, file in zip(images, files, strict=True):
        size = image.get("width"), image.get("height")
        known = all(isinstance(side, int) and 0 < side < 1 << 31 for side in size)
        number = collector.add_image(file, size if known else read_size(file))
        if numbers.setdefault(_get(path, "images", image, "id"), number) != number:
            raise DatasetError(f"{path} has two images of the id {image['id']!r}")
    _add_boxes(path, collector, _list(path, content, "annotations"), numbers, categories)
    return collector.finish(path)


def save_coco(
    dataset: DetectionDataset, folder: str | os.PathLike[str], name: str = "train"
) -> Path:
    """Writes a data set as COCO's are: FOLDER/annotations/instances_NAME.json, FOLDER/NAME/….

    Images that are arrays become PNG files; of those that are files copies are written. Written
    anew are only files of the same name.

    Args:
      dataset: the data set.
      folder: where to write; made where it does not exist.
      name: of the part, such as "train" or "val".

    Returns:
      The path of the JSON file.
    """
    root = expand_path(folder)
    target = root / "annotations" / f"instances_{name}.json"
    for parent in (target.parent, root / name):
        parent.mkdir(parents=True, exist_ok=True)
    images = []
    for number, image in enumerate(dataset.images):
        stem = root / name / f"{number:06d}"
        if isinstance(image, str | os.PathLike):
            file = stem.with_suffix(Path(image).suffix)
            shutil.copyfile(image, file)
        else:
            file = stem.with_suffix(".png")
            Image.fromarray(np.asarray(image)).save(file)
        width, height = read_size(file)
        images.append({"id": number, "file_name": file.name, "width": width, "height": height})
    content = {
        "images": images,
        "categories": [{"id": i, "name": name} for i, name in enumerate(dataset.classes, 1)],
        "annotations": list(_make_annotations(dataset)),
    }
    with temporary_folder(target) as temporary:
        written = temporary / target.name
        written.write_text(json.dumps(content), encoding="utf-8")
        written.replace(target)
    return target


def _make_annotations(dataset: DetectionDataset) -> Iterator[dict[str, Any]]:
    number = 0
    for image in range(len(dataset)):
        _, *columns = dataset[image]
        for box, label, crowd, area in zip(*columns, strict=True):
            number += 1
            x1, y1, x2, y2 = box.astype(float).tolist()
            yield {
                "id": number,
                "image_id": image,
                "category_id": int(label) + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": float(area),
                "iscrowd": int(crowd),
            }


def _read(path: Path) -> Mapping[str, Any]:
    text = read_text(path, MAX_BYTES)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path}: line {error.lineno} is no JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # of too many digits, or nested too deeply
        raise DatasetError(f"{path} is no JSON that can be read: {error}") from error
    if not isinstance(content, dict):
        raise DatasetError(
            f"{path} holds a {type(content).__name__}, expected an object with images, annotations "
            "and categories"
        )
    return content


def _list(path: Path, content: Mapping[str, Any], key: str) -> list[Any]:
    values = content.get(key)
    if not isinstance(values, list):
        raise DatasetError(f"{path} has no list {key!r}, as COCO's annotations of objects have")
    return values


def _get(path: Path, kind: str, entry: Any, key: str) -> Any:
    """A value that an image or a category must have."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, str | int):
        raise DatasetError(f"{path} has an entry of {kind!r} without {key!r}: {str(entry)[:100]}")
    return value


def _sort_ids(path: Path, categories: Mapping[Any, str]) -> list[Any]:
    names = list(categories.values())
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DatasetError(f"{path} has two categories of the name {twice!r}")
    return sorted(categories, key=lambda number: (isinstance(number, str), number))


def _find_folder(path: Path, first: str) -> Path:
    """The folder near an annotation file in which its first image is."""
    part = path.stem.removeprefix("instances_")
    above = path.parent.parent if path.parent.name == "annotations" else path.parent
    near = [above / part, above / "images" / part, above / "images", above, path.parent]
    for folder in near:
        if join_inside(folder, first, str(path)).is_file():
            return folder
    raise DatasetError(
        f"{path}: its first image {first} is neither in {', '.join(map(str, near[:-1]))}; "
        "give the folder of the images"
    )


def _add_boxes(
    path: Path,
    collector: Collector,
    annotations: list[Any],
    numbers: Mapping[Any, int],
    categories: Mapping[Any, str],
) -> None:
    lines: dict[int, int] | None = None
    for index, entry in enumerate(annotations):
        problem = _find_problem(entry, numbers, categories)
        if not problem:
            x, y, width, height = map(float, entry["bbox"])
            area = entry.get("area")
            problem = collector.add_box(
                numbers[entry["image_id"]],
                (x, y, x + width, y + height),
                categories[entry["category_id"]],
                crowd=bool(entry.get("iscrowd")),
                area=float(area) if _is_number(area) else None,
            )
        if problem:
            lines = _find_lines(path) if lines is None else lines
            number = entry.get("id") if isinstance(entry, dict) else None
            name = f"annotations[{index}]" if number is None else f"annotation {number}"
            line = f"line {lines[index]}, " if index in lines else ""
            collector.skip(f"{path}: {line}{name}", problem)


def _find_problem(entry: Any, numbers: Mapping[Any, int], categories: Mapping[Any, str]) -> str:
    """What an annotation lacks; nothing where its box may be looked at."""
    if not isinstance(entry, dict):
        return f"it is a {type(entry).__name__}, expected an object"
    box = entry.get("bbox")
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
        return f"bbox is {str(box)[:100]}, expected four numbers [x, y, width, height]"
    for key, known in (("image_id", numbers), ("category_id", categories)):
        value = entry.get(key)
        if not isinstance(value, str | int) or value not in known:
            kind = "image" if known is numbers else "category"
            return f"{key} is {str(value)[:100]}, which is no {kind} of the file"
    return ""


def _is_number(value: Any) -> bool:
    """Whether it is a number that a float holds."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 1 << 1000
    return isinstance(value, float)


def _find_lines(path: Path) -> dict[int, int]:
    """The line on which each annotation begins; none where lines do not tell annotations apart."""
    text = read_text(path, MAX_BYTES)
    starts: list[int] = []
    decode = json.JSONDecoder().raw_decode
    position = _skip(text, 0) + 1  # behind the opening brace
    while text[position := _skip(text, position)] != "}":
        key, position = decode(text, position)
        position = _skip(text, position)
        if key != "annotations" or text[position] != "[":
            _, position = decode(text, position)
            continue
        starts, position = [], position + 1
        while text[position := _skip(text, position)] != "]":
            starts.append(position)
            _, position = decode(text, position)
        position += 1
    breaks = np.array([match.start() for match in re.finditer("\n", text)])
    if len(breaks) < len(starts):
        return {}
    return dict(enumerate((np.searchsorted(breaks, starts) + 1).tolist()))


def _skip(text: str, position: int) -> int:
    """The position of the next value, or of the end of an object or a list."""
    match = _SPACE.match(text, position)
    return match.end() if match else position
