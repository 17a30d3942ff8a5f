"""A generated detection set: coloured shapes pasted on parts of photos."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from zoo.detection.data.dataset import DetectionDataset
from zoo.inference.images import ImageSource, load_image
from zoo.runtime.checks import check_count

MAX_SHAPES = 5  # of an image
SIDES = (0.12, 0.4)  # of a shape's diameter, in shares of the image's side
MAX_OVERLAP = 0.25  # of the smaller of two boxes
_FINER = 4  # shapes are drawn so much larger, then reduced, for smooth edges


def make_shapes(
    count: int, *, size: int = 128, seed: int = 0, photos: Sequence[ImageSource] = ()
) -> DetectionDataset:
    """Images with one to five shapes each: circles, squares, triangles and stars.

    Shapes have any size, rotation and colour, and overlap a little; a box surrounds the whole of
    its shape, which is in the image.

    Args:
      count: how many images to make.
      size: their height and width in pixels.
      seed: another one makes other images; the image of a number depends on the seed alone, so that
        a larger set begins with a smaller one.
      photos: of which random parts are the backgrounds; without any they are smooth noise.

    Returns:
      A data set of arrays; `zoo.detection.data.coco.save_coco` writes it to files.
    """
    check_count("count", count)
    check_count("size", size, 32)
    backgrounds = [np.asarray(load_image(photo)) for photo in photos]
    made = [_make_image(np.random.default_rng((seed, i)), size, backgrounds) for i in range(count)]
    images, boxes, labels = zip(*made, strict=True)
    return DetectionDataset(
        images=list(images), boxes=list(boxes), labels=list(labels), classes=tuple(_OUTLINES)
    )


def _make_image(
    random: np.random.Generator, size: int, backgrounds: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image = _draw_background(random, size, backgrounds)
    boxes: list[np.ndarray] = []
    labels: list[int] = []
    for _ in range(random.integers(1, MAX_SHAPES + 1)):
        label = int(random.integers(len(_OUTLINES)))
        mask = _draw_mask(random, list(_OUTLINES.values())[label], size)
        box = _find_box(mask)
        if all(_overlap(box, other) <= MAX_OVERLAP for other in boxes):
            _paint(random, image, mask)
            boxes.append(box)
            labels.append(label)
    return image, np.array(boxes, np.float32), np.array(labels, np.int32)


def _draw_background(
    random: np.random.Generator, size: int, backgrounds: Sequence[np.ndarray]
) -> np.ndarray:
    """A random square of a random photo, of at least a third of it, perhaps mirrored."""
    if not backgrounds:
        noise = random.integers(0, 256, (6, 6, 3), np.uint8)
        return np.array(Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC))
    photo = backgrounds[int(random.integers(len(backgrounds)))]
    side = int(min(photo.shape[:2]) * random.uniform(1 / 3, 1))
    top, left = (int(random.integers(length - side + 1)) for length in photo.shape[:2])
    part = Image.fromarray(photo[top : top + side, left : left + side])
    pixels = np.array(part.resize((size, size), Image.Resampling.BICUBIC))
    return pixels[:, :: random.choice((-1, 1))].copy()


def _draw_mask(random: np.random.Generator, outline: np.ndarray, size: int) -> np.ndarray:
    """How much of each pixel a shape covers, from 0 to 1 [size, size]; it is in the image."""
    angle = random.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = outline @ rotation * random.uniform(*SIDES) / 2
    low, high = points.min(axis=0), points.max(axis=0)
    points += random.uniform(-low, 1 - high)
    canvas = Image.new("L", 2 * (_FINER * size,))
    ImageDraw.Draw(canvas).polygon([tuple(p) for p in _FINER * size * points], fill=255)
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX)) / 255


def _find_box(mask: np.ndarray) -> np.ndarray:
    """The box around the pixels of which a shape covers at least half."""
    rows, columns = (np.flatnonzero((mask >= 0.5).any(axis=axis)) for axis in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """How much of the smaller of two boxes the other one covers."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    smaller = min(np.prod(box[2:] - box[:2]) for box in (one, other))
    return float(np.prod(np.maximum(sides, 0)) / smaller)


def _paint(random: np.random.Generator, image: np.ndarray, mask: np.ndarray) -> None:
    """Paints a shape in a colour that differs from what is below, with a little shading."""
    below = image[mask >= 0.5].mean(axis=0)
    colors = random.integers(0, 256, (8, 3))
    color = colors[np.abs(colors - below).sum(axis=1).argmax()]
    shading = random.normal(0, 6, (*mask.shape, 1))
    painted = image + mask[..., None] * (color + shading - image)
    image[:] = np.clip(np.rint(painted), 0, 255)


def _make_outlines() -> dict[str, np.ndarray]:
    """The corners [n, 2] of each shape, in the circle of radius 1."""

    def make_corners(count: int, inner: float = 1.0) -> np.ndarray:
        numbers = np.arange(count)
        angles = 2 * np.pi * numbers / count
        lengths = np.where(numbers % 2, inner, 1.0)  # of a star every other one is nearer
        return np.stack([lengths * np.cos(angles), lengths * np.sin(angles)], axis=1)

    return {
        "circle": make_corners(64),
        "square": make_corners(4),
        "triangle": make_corners(3),
        "star": make_corners(10, inner=0.45),
    }


_OUTLINES = _make_outlines()
