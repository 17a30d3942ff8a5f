"""Draws detections into pictures: boxes in a colour for each class, with tags that can be read."""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zoo.detection.colors import Color, check_colors, label_colors, text_color
from zoo.detection.detections import Detection
from zoo.inference.images import ImageSource, load_image
from zoo.runtime.checks import ArgumentError, check_count

Box = tuple[int, int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# A font any smaller cannot be read.
_MIN_FONT_SIZE = 7
# How far from its box a tag may be placed, in heights of the tag.
_STEPS_AWAY = 6


class _Tag(NamedTuple):
    """A detection's text, as it is drawn; `size` is (width, height) with the margin around."""

    text: str
    font: Font
    margin: int
    size: tuple[int, int]


def draw_detections(
    image: ImageSource,
    detections: Sequence[Detection],
    *,
    colors: Mapping[str, Color | str] | None = None,
    line_width: int | None = None,
    font_size: int | None = None,
) -> Image.Image:
    """Draws the boxes of detections with their labels and scores.

    Tags stand above their boxes; where another tag is in the way, or the image ends, they stand
    inside, below or beside them. Detections of higher scores come first, and are drawn over others.
    A tag that is wider than the image is set in a smaller font. A tag for which there is no room is
    left out.

    Args:
      image: of any kind that `zoo.inference.images.load_image` takes; it is not changed.
      detections: their boxes are in pixels of the upright image, and are clipped to it. Boxes that
        lie outside are left out.
      colors: by label, as (red, green, blue) or by a name such as "red" or "#ff8000". Labels that
        are not in it get those of `label_colors`.
      line_width: of the boxes, in pixels; by default it grows with the image.
      font_size: of the tags, in pixels; by default it grows with the image.

    Returns:
      A picture of the image's size.

    Raises:
      ArgumentError: a box is not finite or ends before it begins, or another argument is wrong.
      ImageError: the image is none.
    """
    picture = load_image(image)
    side = min(picture.size)
    line_width = max(1, round(side / 200)) if line_width is None else line_width
    font_size = max(11, round(side / 36)) if font_size is None else font_size
    line_width = check_count("line_width", line_width)
    font_size = check_count("font_size", font_size, _MIN_FONT_SIZE)
    ordered = sorted(detections, key=lambda detection: -detection.score)
    boxes = [_to_pixels(detection, picture.size) for detection in ordered]
    shown = [(one, box) for one, box in zip(ordered, boxes, strict=True) if box is not None]
    palette = label_colors(one.label for one, _ in shown) | check_colors(colors or {})
    tags = [_make_tag(one, font_size, picture.size) for one, _ in shown]
    sizes = [tag and tag.size for tag in tags]
    places = place_tags([box for _, box in shown], sizes, picture.size)
    draw = ImageDraw.Draw(picture)
    for one, box in reversed(shown):
        _draw_box(draw, box, palette[one.label], line_width)
    for (one, _), tag, place in reversed(list(zip(shown, tags, places, strict=True))):
        if tag and place:
            _draw_tag(draw, tag, place, palette[one.label])
    return picture


def place_tags(
    boxes: Sequence[Box], sizes: Sequence[tuple[int, int] | None], image_size: tuple[int, int]
) -> list[Box | None]:
    """Places a tag at each box so that no two tags overlap.

    Each tag takes the first place in or around its box that is free of the tags before it.

    Args:
      boxes: (left, top, right, bottom) in pixels; right and bottom are the first ones outside.
      sizes: width and height of each tag; None where there is none.
      image_size: width and height; no tag is larger.

    Returns:
      The tags' rectangles like boxes, inside the image; None where there is no tag, or no place
      is free.
    """
    placed = np.empty((0, 4), np.int64)
    places: list[Box | None] = []
    for box, size in zip(boxes, sizes, strict=True):
        if size is None:
            places.append(None)
            continue
        corners = np.clip(list(_corners(box, size)), 0, np.subtract(image_size, size))
        rectangles = np.concatenate([corners, corners + size], axis=1)
        low = np.maximum(rectangles[:, None, :2], placed[:, :2])
        high = np.minimum(rectangles[:, None, 2:], placed[:, 2:])
        free = rectangles[~(low < high).all(axis=2).any(axis=1)][:1]
        placed = np.concatenate([placed, free])
        places.append(tuple(free[0].tolist()) if len(free) else None)
    return places


def _corners(box: Box, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Where the left upper corner of a tag may be, the best place first."""
    (left, top, right, bottom), (width, height) = box, size
    yield left, top - height
    yield left, top
    yield left, bottom
    yield right, top
    yield left - width, top
    # Along the edges of the box.
    for x in range(left, right - width + 1, max(1, width // 2)):
        yield from ((x, top - height), (x, top), (x, bottom), (x, bottom - height))
    for y in range(top, bottom - height + 1, height):
        yield from ((right, y), (left - width, y), (left, y), (right - width, y))
    for step in range(1, _STEPS_AWAY):
        above, below = top - (step + 1) * height, bottom + step * height
        for x in (left, right, left - width):
            yield from ((x, above), (x, below))


def _to_pixels(detection: Detection, image_size: tuple[int, int]) -> Box | None:
    """The pixels that a box covers, at least one; None outside the image."""
    x1, y1, x2, y2 = map(float, detection.box)
    if not (x1 <= x2 and y1 <= y2) or math.isinf(x2 - x1) or math.isinf(y2 - y1):
        raise ArgumentError(
            f"the box of {detection.label!r} must be finite (x1, y1, x2, y2) with x1 <= x2 and "
            f"y1 <= y2, got {(x1, y1, x2, y2)}"
        )
    width, height = image_size
    if x2 < 0 or y2 < 0 or x1 > width or y1 > height:
        return None
    left, top = math.floor(min(max(x1, 0), width - 1)), math.floor(min(max(y1, 0), height - 1))
    right, bottom = math.ceil(min(x2, width)), math.ceil(min(y2, height))
    return left, top, max(right, left + 1), max(bottom, top + 1)


@functools.lru_cache(maxsize=64)
def _load_font(size: int) -> Font:
    return ImageFont.load_default(size)


def _make_tag(detection: Detection, font_size: int, image_size: tuple[int, int]) -> _Tag | None:
    """The tag of a detection, in the largest font in which it fits into the image, or None."""
    text = " ".join(f"{detection.label} {detection.score:.2f}".split())
    for size in range(min(font_size, image_size[1]), _MIN_FONT_SIZE - 1, -1):
        font = _load_font(size)
        margin = max(1, size // 5)
        bottom = font.getbbox(f"{text}Ág")[3]  # of the highest and lowest letters, for all alike
        width = math.ceil(font.getlength(text)) + 2 * margin
        height = math.ceil(bottom) + margin
        if width <= image_size[0] and height <= image_size[1] // 2:
            return _Tag(text, font, margin, (width, height))
    return None


def _draw_box(draw: ImageDraw.ImageDraw, box: Box, color: Color, line_width: int) -> None:
    left, top, right, bottom = box
    line_width = min(line_width, (min(right - left, bottom - top) + 1) // 2)
    draw.rectangle((left, top, right - 1, bottom - 1), outline=color, width=line_width)


def _draw_tag(draw: ImageDraw.ImageDraw, tag: _Tag, place: Box, color: Color) -> None:
    left, top, right, bottom = place
    draw.rectangle((left, top, right - 1, bottom - 1), fill=color)
    draw.text((left + tag.margin, top), tag.text, text_color(color), tag.font)
