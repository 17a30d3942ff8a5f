"""Photos and their boxes in training: changed at random, by albumentations, and of one size."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from zoo.data.augment import (
    jitter,
    load_albumentations,
    load_opencv,
    once_per_thread,
    set_random_state,
)
from zoo.inference.images import ImageSource, load_image
from zoo.runtime.checks import check_count, check_number

# How often an image is cropped, and how often zoomed out of, where that is asked for: as SSD does
# (Liu et al. 2016, arXiv 1512.02325, sections 2.2 and 3.6).
PROBABILITY = 0.5
# How many crops are drawn until one shows an object; then the image stays as it is.
MAX_TRIES = 10
# ImageNet's mean, which becomes 0 when the image is normalised.
FILL = (124, 116, 104)


class DetectionSample(NamedTuple):
    """An image of a fixed size with a fixed number of boxes, so that samples make a batch.

    Args:
      image: [height, width, 3], uint8.
      boxes: float32 [max_boxes, 4], (x1, y1, x2, y2) in pixels of `image`; zeros behind the last.
      labels: class numbers, int32 [max_boxes]; −1 behind the last box.
      size: (height, width) of the part of `image` that is no padding, int32 [2].
      original_size: (height, width) of the upright image, int32 [2]. Of what was only resized, a
        box in it is the box here times original_size / size.
      dropped: how many boxes there were beyond `max_boxes`, int32; these were the smallest.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    size: np.ndarray
    original_size: np.ndarray
    dropped: np.ndarray


@dataclasses.dataclass(frozen=True)
class DetectionResize:
    """An image and its boxes → a `DetectionSample`; nothing is drawn.

    Resizing is bilinear without antialiasing, as detectors resize what they are shown.

    Args:
      height, width: of the result, in pixels.
      keep_aspect: whether the image keeps its ratio of width to height, and is padded at the right
        and below; otherwise it is stretched, as for SSD.
      max_boxes: how many boxes are kept, the largest.
      fill: the colour of the padding, (red, green, blue) from 0 to 255.

    Raises:
      ArgumentError: a size or a number is out of range.
    """

    height: int
    width: int
    keep_aspect: bool = False
    max_boxes: int = 100
    fill: tuple[int, int, int] = FILL

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name in ("height", "width", "max_boxes"):
            check_count(name, getattr(self, name))

    def __call__(
        self,
        image: ImageSource,
        boxes: np.ndarray,
        labels: np.ndarray,
        random: np.random.Generator | None = None,
    ) -> DetectionSample:
        """The image, resized, with its boxes [n, 4] and labels [n]; `random` is not used."""
        pixels = np.asarray(load_image(image))
        resized, resized_boxes = self.resize(pixels, as_boxes(boxes))
        return self.pad(resized, resized_boxes, np.asarray(labels), pixels.shape[:2])

    def resize(self, pixels: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and boxes at the size that the image has in the result."""
        height, width = pixels.shape[:2]
        size = self.height, self.width
        if self.keep_aspect:
            scale = min(self.height / height, self.width / width)
            size = max(round(scale * height), 1), max(round(scale * width), 1)
        cv2 = load_opencv()
        resized = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_LINEAR)
        scale_xy = np.array([size[1] / width, size[0] / height], np.float32)
        return resized, boxes * np.tile(scale_xy, 2)

    def pad(
        self,
        pixels: np.ndarray,
        boxes: np.ndarray,
        labels: np.ndarray,
        original_size: tuple[int, ...],
    ) -> DetectionSample:
        """The sample of resized pixels, with as many boxes and labels as samples have."""
        height, width = pixels.shape[:2]
        image = np.full((self.height, self.width, 3), self.fill, np.uint8)
        image[:height, :width] = pixels
        count = min(len(boxes), self.max_boxes)
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        kept = np.sort(np.argsort(-areas, kind="stable")[:count])
        padded_boxes = np.zeros((self.max_boxes, 4), np.float32)
        padded_labels = np.full(self.max_boxes, -1, np.int32)
        padded_boxes[:count], padded_labels[:count] = boxes[kept], labels[kept]
        return DetectionSample(
            image,
            padded_boxes,
            padded_labels,
            np.array((height, width), np.int32),
            np.array(original_size, np.int32),
            np.array(len(boxes) - count, np.int32),
        )


@dataclasses.dataclass(frozen=True)
class DetectionAugmentation:
    """An image and its boxes → a `DetectionSample`, changed at random.

    Args:
      resize: makes the sample of what was changed.
      flip: the probability of mirroring an image left to right.
      crop: how much of its width and of its height an image loses at most, from 0 to below 1, when
        it is cropped; half of that on either side. A crop that shows none of its objects is drawn
        anew.
      zoom_out: how much an image is padded at most on each side, in shares of its width and height,
        so that objects become smaller; SSD pads to four times the size, which is 1.5.
      min_visible: how much of a box's area a crop must leave so that the box is kept, clipped.
      color_jitter: the largest relative change of brightness, contrast and saturation.

    Raises:
      ArgumentError: a number is out of range.
    """

    resize: DetectionResize
    flip: float = 0.5
    crop: float = 0.0
    zoom_out: float = 0.0
    min_visible: float = 0.3
    color_jitter: float = 0.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name, most in (
            ("flip", 1),
            ("crop", 0.99),
            ("zoom_out", 10),
            ("min_visible", 0.99),  # albumentations rounds a share of 1 down
            ("color_jitter", 1),
        ):
            check_number(name, getattr(self, name), 0, most)

    def __call__(
        self,
        image: ImageSource,
        boxes: np.ndarray,
        labels: np.ndarray,
        random: np.random.Generator,
    ) -> DetectionSample:
        """The changed image with its boxes [n, 4] and labels [n]; the generator alone decides."""
        move, recolor = once_per_thread(self, make_transforms)
        original = pixels = np.asarray(load_image(image))
        boxes, labels = as_boxes(boxes), np.asarray(labels)
        if move is not None:
            pixels, boxes, labels = _move(move, pixels, boxes, labels, random)
        pixels, boxes = self.resize.resize(pixels, boxes)
        if recolor is not None:
            set_random_state(recolor, random)
            pixels = recolor(image=pixels)["image"]
        return self.resize.pad(pixels, boxes, labels, original.shape[:2])


def make_transforms(augmentation: DetectionAugmentation) -> tuple[Any, Any]:
    """What an augmentation asks for, of albumentations.

    Returns:
      (move, recolor): what moves boxes, in the image's own size, and what changes colours. None
      where there is nothing to do.
    """
    s = augmentation
    if not any((s.flip, s.crop, s.zoom_out, s.color_jitter)):
        return None, None
    a = load_albumentations()
    moves = []
    if s.crop:
        sides = 4 * [(-s.crop / 2, 0.0)]
        moves.append(a.CropAndPad(percent=sides, keep_size=False, p=PROBABILITY))
    if s.zoom_out:
        sides = 4 * [(0.0, s.zoom_out)]
        fill = tuple(map(float, s.resize.fill))
        moves.append(a.CropAndPad(percent=sides, keep_size=False, fill=fill, p=PROBABILITY))
    if s.flip:
        moves.append(a.HorizontalFlip(p=s.flip))
    boxes = a.BboxParams(
        "pascal_voc",
        label_fields=["rows"],
        min_visibility=s.min_visible,
        min_area=1e-3,  # of less, float32 might lose the sides
        clip=True,
    )
    move = a.Compose(moves, bbox_params=boxes) if moves else None
    recolor = a.Compose([jitter(a, 3, *3 * (s.color_jitter,))]) if s.color_jitter else None
    return move, recolor


def as_boxes(boxes: np.ndarray) -> np.ndarray:
    """Boxes as float32 [n, 4], also where there are none."""
    return np.asarray(boxes, np.float32).reshape(-1, 4)


def _move(
    move: Any,
    pixels: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moved pixels, boxes and labels, among which is one of the image's boxes if it has any."""
    for _ in range(MAX_TRIES):
        set_random_state(move, random)
        moved = move(image=pixels, bboxes=boxes, rows=np.arange(len(boxes)))
        rows = np.asarray(moved["rows"], int)
        if len(rows) or not len(boxes):
            return moved["image"], as_boxes(moved["bboxes"]), labels[rows]
    return pixels, boxes, labels
