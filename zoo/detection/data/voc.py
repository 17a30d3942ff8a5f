"""Annotations as Pascal VOC has them: an XML file for each image (Everingham et al. 2010)."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from xml.parsers import expat

from zoo.data.dataset import DatasetError
from zoo.data.files import check_folder, list_images, list_some
from zoo.data.folders import TRAIN_NAMES, VALIDATION_NAMES, find_name
from zoo.detection.data.collect import Collector, read_file, read_size, read_text
from zoo.detection.data.dataset import DetectionDataset
from zoo_pretrained.natural_order import natural_key

MAX_BYTES = 16 << 20  # of one image's annotations


@dataclasses.dataclass
class _Element:
    """An element of an XML file, and the line on which it begins."""

    tag: str
    line: int
    text: str = ""
    children: list["_Element"] = dataclasses.field(default_factory=list)

    def find(self, tag: str) -> "_Element | None":
        return next((child for child in self.children if child.tag == tag), None)

    def read(self, tag: str) -> str:
        child = self.find(tag)
        return "" if child is None else child.text.strip()


def load_voc(
    folder: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    *,
    first_pixel: int = 1,
) -> tuple[DetectionDataset, DetectionDataset | None]:
    """The images and boxes of a folder in Pascal VOC's layout.

    These are `Annotations/NAME.xml`, `JPEGImages/NAME.jpg` and `ImageSets/Main/train.txt` and
    `val.txt` with the names of each part; or XML files beside the images, in one part. An object
    marked as difficult is kept as `crowd`, since VOC's evaluation ignores it, too. The parts of
    objects (heads, hands) are left out.

    VOC counts pixels from 1, and a box includes its last ones: one from xmin = 1 to xmax = 1 is one
    pixel wide. Here it is the box from x1 = 0 to x2 = 1.

    Args:
      folder: the folder, such as "VOCdevkit/VOC2012".
      classes: the names of the classes; objects of others are left out and named in `skipped`. By
        default they are those that occur, in natural order.
      first_pixel: the number of the first pixel. Programs that count from 0 and do not include the
        last pixel, so that xmin = 0 to xmax = 1 is one pixel, take 0.

    Returns:
      The training images, and those for validation; None where they are not told apart.

    Raises:
      DatasetError: the folder has another layout; a file is no XML or declares entities; images do
        not exist; no box can be used. The message names file and line.
    """
    root = Path(check_folder(folder))
    nested = (root / "Annotations").is_dir()
    annotations, photos = (root / "Annotations", root / "JPEGImages") if nested else (root, root)
    files = {path.stem: path for path in sorted(annotations.glob("*.xml"), key=_by_name)}
    if not files:
        raise DatasetError(
            f"{annotations} has no XML files; expected {root / 'Annotations' / 'NAME.xml'}, or XML "
            "files beside the images"
        )
    images = {Path(path).name: path for path in list_images(check_folder(photos), below=False)}
    parts = _list_parts(root / "ImageSets" / "Main", files)
    loaded = [_load_part(root, part, images, classes, first_pixel) for part in parts]
    if len(loaded) == 1:
        return loaded[0], None
    names = sorted({name for part in loaded for name in part.classes}, key=natural_key)
    train, val = (part.with_classes(names if classes is None else classes) for part in loaded)
    return train, val


def _by_name(path: Path) -> tuple[object, ...]:
    return tuple(natural_key(path.name))


def _list_parts(folder: Path, files: dict[str, Path]) -> list[list[Path]]:
    """The annotation files for training and for validation, or all of them."""
    listed = [path.stem for path in folder.glob("*.txt")] if folder.is_dir() else []
    train, val = find_name((*TRAIN_NAMES, "trainval"), listed), find_name(VALIDATION_NAMES, listed)
    return [_read_names(folder / f"{name}.txt", files) for name in (train, val) if name] or [
        list(files.values())
    ]


def _read_names(path: Path, files: dict[str, Path]) -> list[Path]:
    listed = []
    for number, line in enumerate(read_text(path, MAX_BYTES).splitlines(), 1):
        if not line.strip():
            continue
        name = line.split()[0]
        if name not in files:
            raise DatasetError(f"{path}: line {number} has {name!r}, which has no annotations")
        listed.append(files[name])
    return listed


def _load_part(
    root: Path,
    files: list[Path],
    images: dict[str, str],
    classes: Sequence[str] | None,
    first_pixel: int,
) -> DetectionDataset:
    by_stem = {Path(name).stem: path for name, path in reversed(images.items())}
    collector, missing = Collector(classes), []
    for file in files:
        annotation = _parse(file)
        image = images.get(annotation.read("filename")) or by_stem.get(file.stem)
        if image is None:
            missing.append(annotation.read("filename") or file.stem)
            continue
        size = annotation.find("size") or annotation
        sides = [size.read(side) for side in ("width", "height")]
        known = all(side.isdecimal() and len(side) < 10 and int(side) for side in sides)
        width, height = map(int, sides) if known else read_size(image)
        number = collector.add_image(image, (width, height))
        for element in annotation.children:
            if element.tag == "object":
                _add_object(collector, f"{file}: line {element.line}", number, element, first_pixel)
    if missing:
        raise DatasetError(
            f"{root} has annotations of {len(missing)} images that do not exist: "
            f"{list_some(missing)}"
        )
    return collector.finish(root)


def _add_object(
    collector: Collector, where: str, image: int, element: _Element, first_pixel: int
) -> None:
    box, name = element.find("bndbox"), element.read("name")
    try:
        if box is None or not name:
            raise ValueError("an object has a name and a bndbox")
        x1, y1, x2, y2 = (float(box.read(side)) for side in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError as error:
        collector.skip(where, str(error))
        return
    corners = (x1 - first_pixel, y1 - first_pixel, x2, y2)
    difficult = element.read("difficult") == "1"
    if problem := collector.add_box(image, corners, name, crowd=difficult):
        collector.skip(where, problem)


def _parse(path: Path) -> _Element:
    """The root of an XML file, without attributes.

    Raises:
      DatasetError: it is no XML, or declares a document type, as bombs of entities do.
    """
    top = _Element("", 0)
    stack = [top]
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(tag: str, _attributes: dict[str, str]) -> None:
        element = _Element(tag, parser.CurrentLineNumber)
        stack[-1].children.append(element)
        stack.append(element)

    def end(_tag: str) -> None:
        stack.pop()

    def add_text(text: str) -> None:
        stack[-1].text += text

    def refuse(*_declaration: object) -> None:
        line = parser.CurrentLineNumber
        raise DatasetError(f"{path}: line {line} declares a document type, which is not read")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = add_text, refuse
    try:
        parser.Parse(read_file(path, MAX_BYTES), True)
    except (expat.ExpatError, LookupError, UnicodeError) as error:
        line = parser.CurrentLineNumber
        raise DatasetError(f"{path}: line {line} is no XML: {error}") from error
    if top.children[0].tag != "annotation":
        raise DatasetError(
            f"{path}: line {top.children[0].line} begins <{top.children[0].tag}>, expected "
            "<annotation>"
        )
    return top.children[0]
