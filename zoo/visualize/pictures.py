"""Pictures: values as colours, overlays, grids with titles, files."""

import dataclasses
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zoo_pretrained.printable import OneLineError

# Colours at even distances from 0 to 1, between which values are interpolated.
COLORS = {
    "heat": ((8, 8, 40), (84, 15, 109), (187, 55, 84), (249, 142, 8), (252, 255, 164)),
    "grey": ((0, 0, 0), (255, 255, 255)),
    "signed": ((33, 102, 172), (146, 197, 222), (247, 247, 247), (244, 165, 130), (178, 24, 43)),
}
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
TITLE_HEIGHT = 22
GAP = 6


class PictureError(OneLineError, ValueError):
    """A picture cannot be made or saved; the message says what to change."""


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A picture that shows itself in a notebook.

    Args:
      pixels: [H, W, 3], uint8.
      title: what it shows, in a few words.
    """

    pixels: np.ndarray
    title: str = ""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.pixels, dtype=dtype, copy=copy)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves it as PNG, JPEG or WebP, by the path's ending; see `save`."""
        save(self.pixels, path)

    def _repr_jpeg_(self) -> bytes:
        return to_jpeg(self.pixels)


@dataclasses.dataclass(frozen=True, eq=False)
class Gallery:
    """Pictures of one size, with titles: a sequence that shows itself in a notebook as a grid.

    Args:
      pixels: [N, H, W, 3], uint8.
      titles: one for each picture, or none at all.
      columns: of the grid; None makes it about square.
    """

    pixels: np.ndarray
    titles: Sequence[str] = ()
    columns: int | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Picture:
        return Picture(self.pixels[index], self.titles[index] if self.titles else "")

    @property
    def picture(self) -> Picture:
        """All of them in a grid."""
        return Picture(grid(self.pixels, self.titles, columns=self.columns))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves the grid as PNG, JPEG or WebP, by the path's ending; see `save`."""
        self.picture.save(path)

    def figure(self) -> Any:
        """A matplotlib figure with an axis for each picture; needs the extra `visualize`."""
        columns = self.columns or math.ceil(math.sqrt(len(self)))
        return make_figure(list(self.pixels), list(self.titles) or [""] * len(self), columns)

    def _repr_jpeg_(self) -> bytes:
        return self.picture._repr_jpeg_()


def color(values: Any, colors: str = "heat") -> np.ndarray:
    """Values [...] from 0 to 1 → colours [..., 3], uint8; what is outside is clipped.

    Args:
      values: floating point.
      colors: "heat" from dark to bright, "grey" from black to white, or "signed" from blue by white
        to red, where 0.5 is white.

    Raises:
      PictureError: no colours have that name.
    """
    if colors not in COLORS:
        raise PictureError(f"colors must be one of {', '.join(COLORS)}, got {colors!r}")
    table = np.array(COLORS[colors], np.float32)
    position = np.clip(np.nan_to_num(np.asarray(values, np.float32)), 0, 1) * (len(table) - 1)
    channels = [np.interp(position, np.arange(len(table)), channel) for channel in table.T]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


def stretch(values: Any, percentile: float = 100.0) -> np.ndarray:
    """Values of each picture [N, ...], scaled so that the smallest is 0 and the largest 1.

    Args:
      values: floating point.
      percentile: the share of values that stay below 1, in per cent: a few very large ones would
        leave all others dark. What exceeds 1 is clipped.

    Returns:
      Like values; a picture whose values are all equal becomes zeros.
    """
    values = np.nan_to_num(np.asarray(values, np.float32))
    axes = tuple(range(1, values.ndim))
    low = values.min(axes, keepdims=True)
    span = np.percentile(values - low, percentile, axes, keepdims=True)
    full = np.max(values - low, axes, keepdims=True)
    span = np.where(span > 0, span, full)
    return np.clip((values - low) / np.where(span > 0, span, 1), 0, 1).astype(np.float32)


def overlay(photo: np.ndarray, heat: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """A heat map over a photo, [H, W, 3], uint8.

    Args:
      photo: [H, W, 3], uint8.
      heat: [H, W] from 0 to 1.
      opacity: of the heat map, from 0 to 1.

    Raises:
      PictureError: `opacity` is outside 0 to 1.
    """
    if not 0 <= opacity <= 1:
        raise PictureError(f"opacity must be from 0 to 1, got {opacity}")
    grey = np.repeat(photo.mean(axis=-1, keepdims=True), 3, axis=-1)
    # The photo in grey, so that its own colours are not taken for heat.
    return np.round((1 - opacity) * grey + opacity * color(heat)).astype(np.uint8)


def grid(
    pictures: Sequence[np.ndarray] | np.ndarray,
    titles: Sequence[str] = (),
    *,
    columns: int | None = None,
) -> np.ndarray:
    """Pictures of one size side by side, with titles above, [H, W, 3], uint8.

    Args:
      pictures: each [H, W, 3], uint8.
      titles: one for each picture, or none at all; what does not fit is cut.
      columns: how many stand beside each other; None makes the grid about square.

    Raises:
      PictureError: there are none, they differ in size, or there are more or fewer titles.
    """
    pictures = list(pictures)
    shapes = {picture.shape for picture in pictures}
    if len(shapes) != 1:
        raise PictureError(
            f"a grid is made of pictures of one size, got {sorted(shapes) or 'none'}"
        )
    if titles and len(titles) != len(pictures):
        raise PictureError(f"got {len(titles)} titles for {len(pictures)} pictures")
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    columns = min(columns, len(pictures))
    height, width, _ = pictures[0].shape
    top = TITLE_HEIGHT if titles else 0
    rows = math.ceil(len(pictures) / columns)
    size = (columns * (width + GAP) - GAP, rows * (height + top + GAP) - GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for number, picture in enumerate(pictures):
        x, y = number % columns * (width + GAP), number // columns * (height + top + GAP)
        if titles:
            draw.text((x + 2, y + 3), _fit(titles[number], font, width - 4), "black", font)
        sheet.paste(Image.fromarray(picture), (x, y + top))
    return np.asarray(sheet)


def _fit(text: str, font: Any, width: int) -> str:
    """As much of a text as is so wide, with "…" where something was cut."""
    shown = text
    while shown and font.getlength(shown if shown == text else f"{shown}…") > width:
        shown = shown[:-1]
    return shown if shown == text else f"{shown.rstrip()}…"


def resize(pixels: np.ndarray, height: int, width: int | None = None) -> np.ndarray:
    """Pixels [H, W, 3], uint8, at another size; small ones grow without blur."""
    width = height if width is None else width
    grows = height >= pixels.shape[0] and width >= pixels.shape[1]
    method = Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(pixels).resize((width, height), method))


def to_uint8(values: Any) -> np.ndarray:
    """Values from 0 to 1 → uint8; what is outside is clipped."""
    return np.round(255 * np.clip(np.asarray(values, np.float32), 0, 1)).astype(np.uint8)


def to_jpeg(pixels: np.ndarray) -> bytes:
    """The bytes of a JPEG file: what a notebook stores, where PNG takes five times the space."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80, optimize=True)
    return buffer.getvalue()


def check_ending(path: str | os.PathLike[str], endings: Sequence[str] = ENDINGS) -> Path:
    """The path, if its name ends as one of the files that can be written.

    Raises:
      PictureError: it ends otherwise, or its folder does not exist.
    """
    path = Path(path)
    if path.suffix.lower() not in endings:
        raise PictureError(f"{path} must end in {', '.join(endings)}, got {path.suffix!r}")
    if not path.parent.is_dir():
        raise PictureError(f"{path} cannot be written: there is no folder {path.parent}")
    return path


def save(pixels: np.ndarray, path: str | os.PathLike[str]) -> None:
    """Saves pixels [H, W, 3], uint8, as PNG, JPEG or WebP; the file appears complete or not at all.

    Raises:
      PictureError: the path has another ending, or its folder does not exist.
      OSError: the file cannot be written.
    """
    path = check_ending(path)
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        Image.fromarray(pixels).save(beside, quality=92)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def make_figure(pictures: Sequence[np.ndarray], titles: Sequence[str], columns: int) -> Any:
    """A matplotlib figure of pictures [H, W, 3] with titles; needs the extra `visualize`."""
    from zoo.runtime.extras import require

    figure_class = require("matplotlib.figure", "visualize").Figure
    rows = math.ceil(len(pictures) / columns)
    figure = figure_class(figsize=(2.6 * columns, 2.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, picture, title in zip(axes.flat, pictures, titles, strict=False):
        axis.imshow(picture)
        axis.set_title(title, fontsize=9)
    return figure
