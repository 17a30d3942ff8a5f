"""What the readers of annotations share: paths, sizes, and which boxes can be used."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.data.dataset import DatasetError
from zoo.detection.data.dataset import DetectionDataset
from zoo.inference.images import FORMATS
from zoo.inference.pixels import upright_size
from zoo_pretrained.natural_order import natural_key

# Less than this many pixels over the edge is rounding, which is not counted as clipping.
ROUNDING = 0.5
# Pixels. Of a thinner box float32 might lose the sides in a large photo.
MIN_SIDE = 0.01

_Box = tuple[float, float, float, float]


class Collector:
    """Collects the images and boxes that annotations list, and notes what is left out."""

    def __init__(self, classes: Sequence[str] | None = None) -> None:
        """Starts without images; boxes of other classes than `classes`, if given, are left out."""
        self.classes = classes
        self.images: list[str] = []
        self.skipped: list[str] = []
        self.clipped = 0
        self._known = None if classes is None else set(classes)
        self._sizes: list[tuple[int, int]] = []
        self._boxes: list[list[_Box]] = []
        self._names: list[list[str]] = []
        self._crowd: list[list[bool]] = []
        self._areas: list[list[float]] = []

    def add_image(self, path: str, size: tuple[int, int]) -> int:
        """Adds an image of (width, height) pixels; returns its number."""
        self.images.append(path)
        self._sizes.append(size)
        self._boxes.append([])
        self._names.append([])
        self._crowd.append([])
        self._areas.append([])
        return len(self.images) - 1

    def add_box(
        self,
        image: int,
        box: _Box,
        name: str,
        *,
        crowd: bool = False,
        area: float | None = None,
    ) -> str:
        """Adds a box, clipped to its image.

        Args:
          image: the number of its image.
          box: (x1, y1, x2, y2) in pixels.
          name: of its class.
          crowd: whether it is a group's, or is to be ignored for another reason.
          area: of the object in square pixels; by default that of the clipped box.

        Returns:
          Why the box cannot be used and was not added; nothing where it was.
        """
        if self._known is not None and name not in self._known:
            return f"the class {name!r} is unknown"
        width, height = self._sizes[image]
        x1, y1, x2, y2 = box
        clipped = max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height)
        if problem := _find_problem(box, clipped, (width, height)):
            return f"the box ({', '.join(f'{side:g}' for side in box)}) {problem}"
        moved = max(abs(one - other) for one, other in zip(box, clipped, strict=True))
        self.clipped += moved > ROUNDING
        if area is None or not 0 <= area < math.inf:
            area = (clipped[2] - clipped[0]) * (clipped[3] - clipped[1])
        self._boxes[image].append(clipped)
        self._names[image].append(name)
        self._crowd[image].append(crowd)
        self._areas[image].append(area)
        return ""

    def skip(self, where: str, reason: str) -> None:
        """Notes that something is left out: the file and the line, and why."""
        self.skipped.append(f"{where}: {reason}")

    def finish(self, source: str | os.PathLike[str]) -> DetectionDataset:
        """The data set; DatasetError where there are no images, or no boxes that can be used.

        Where no classes were given they are those of the boxes, in natural order.
        """
        names = {name for image in self._names for name in image}
        if not names:
            left_out = f", the first is {self.skipped[0]}" if self.skipped else ""
            raise DatasetError(
                f"{source} has no boxes that can be used, in {len(self.images)} images; "
                f"{len(self.skipped)} were left out{left_out}"
            )
        classes = sorted(names, key=natural_key) if self.classes is None else list(self.classes)
        numbers = {name: number for number, name in enumerate(classes)}
        return DetectionDataset(
            images=self.images,
            boxes=[np.array(part, np.float32).reshape(-1, 4) for part in self._boxes],
            labels=[np.array([numbers[n] for n in part], np.int32) for part in self._names],
            classes=tuple(classes),
            crowd=[np.array(part, bool) for part in self._crowd],
            areas=[np.array(part, np.float64) for part in self._areas],
            skipped=tuple(self.skipped),
            clipped=self.clipped,
        )


def read_file(path: Path, limit: int) -> bytes:
    """A file's bytes; DatasetError where it cannot be read or has more than `limit`."""
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) > limit:
        raise DatasetError(f"{path} has more than {limit >> 20} MiB, which is no annotation file")
    return data


def read_text(path: Path, limit: int) -> str:
    """A file's text in UTF-8; DatasetError as of `read_file`, or where it is none."""
    data = read_file(path, limit)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DatasetError(f"{path}: line {line} is no text in UTF-8") from error


def join_inside(folder: Path, name: str, where: str) -> Path:
    """The path of a file in a folder; DatasetError where the name leads out of the folder."""
    path = Path(os.path.normpath(name))
    if not name or "\0" in name or path.is_absolute() or path.parts[:1] == (os.pardir,):
        raise DatasetError(
            f"{where}: {name!r} is no path below {folder}; paths must be relative and stay inside"
        )
    return folder / path


def read_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """The (width, height) of an upright image, from its header; DatasetError if it has none."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return upright_size(image)
    except Exception as error:  # each of Pillow's readers raises errors of its own
        raise DatasetError(f"{path} is no image that can be read") from error


def check_images_exist(source: str | os.PathLike[str], images: Sequence[str]) -> None:
    """Raises DatasetError where images do not exist; the message names the first."""
    missing = [path for path in images if not Path(path).is_file()]
    if missing:
        raise DatasetError(
            f"{source}: {len(missing)} of {len(images)} images do not exist, the first is "
            f"{missing[0]}"
        )


def _find_problem(box: _Box, clipped: _Box, size: tuple[int, int]) -> str:
    """Why a box cannot be used; nothing where it can."""
    if not all(map(math.isfinite, box)):
        return "has a coordinate that is not finite"
    width, height = box[2] - box[0], box[3] - box[1]
    if width <= 0 or height <= 0:
        return f"has width {width:g} and height {height:g}, which must be above 0"
    if min(clipped[2] - clipped[0], clipped[3] - clipped[1]) < MIN_SIDE:
        return f"has no area inside of the image of {size[0]}x{size[1]} pixels"
    return ""
