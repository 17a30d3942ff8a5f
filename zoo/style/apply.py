"""Paints photos and videos in a style: `apply`, `apply_all`, `apply_video`."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack

import numpy as np
from PIL import Image

from zoo.inference.batches import list_sources, name_source
from zoo.inference.images import ImageError, ImageSource
from zoo.inference.video import VIDEO_ENDINGS, check_video, open_video, read_frames, write_video
from zoo.runtime.checks import ArgumentError, check_count, check_number
from zoo.runtime.prefetch import prefetch
from zoo.runtime.progress import Progress
from zoo.style.pixels import MAX_SIDE, load_pixels
from zoo.style.styles import StyleError, Styles, describe_unknown, load_styles
from zoo.style.tiles import MULTIPLE, stylize
from zoo.visualize.pictures import Picture, check_ending

Style = str | os.PathLike[str] | Styles | Mapping[str, float]

# A smaller photo has a position or two in the middle of the network.
MIN_SIDE = 32
TILE = 1024
# Frames of a video that are computed together.
FRAMES_AT_ONCE = 4


class StyleOptions(TypedDict, total=False):
    """The arguments that `apply` has beside the photo and the style; see there."""

    styles: Styles | str | os.PathLike[str] | None
    size: int | None
    keep_colors: bool
    strength: float
    tile: int


class Painted(NamedTuple):
    """A photo that was painted, or the error why it could not be.

    Args:
      name: its path, or its number.
      picture: None where there is an error.
      error: None where there is a picture.
    """

    name: str
    picture: Picture | None
    error: ImageError | None


@dataclasses.dataclass(frozen=True)
class Painter:
    """A style, ready to paint photos with.

    Args:
      styles: the network.
      weights: of the styles [styles].
      title: what the style is called.
      keep_colors, strength, tile: as of `apply`.

    Raises:
      ArgumentError: a value has another type or range.
    """

    styles: Styles
    weights: np.ndarray
    title: str
    keep_colors: bool = False
    strength: float = 1.0
    tile: int = TILE

    def __post_init__(self) -> None:
        """Checks the values."""
        check_number("strength", self.strength, 0, 1)
        check_count("tile", self.tile, 8 * MULTIPLE)
        if self.tile % MULTIPLE:
            raise ArgumentError(f"tile must be a multiple of {MULTIPLE}, got {self.tile}")

    def __call__(self, photos: np.ndarray) -> np.ndarray:
        """Photos of one size, [N, H, W, 3] uint8 → pictures like them."""
        if min(photos.shape[1:3]) < MIN_SIDE:
            height, width = photos.shape[1:3]
            raise ImageError(
                f"the photo has {width}x{height} pixels; at least {MIN_SIDE} a side are needed"
            )
        pictures = stylize(self.styles, photos, self.weights, self.tile)
        if self.strength < 1:
            mixed = self.strength * pictures.astype(np.float32) + (1 - self.strength) * photos
            pictures = np.round(mixed).astype(np.uint8)
        if self.keep_colors:
            pairs = zip(pictures, photos, strict=True)
            pictures = np.stack([take_colors(picture, photo) for picture, photo in pairs])
        return pictures


def apply(
    photo: ImageSource,
    style: Style | None = None,
    *,
    styles: Styles | str | os.PathLike[str] | None = None,
    size: int | None = None,
    keep_colors: bool = False,
    strength: float = 1.0,
    tile: int = TILE,
) -> Picture:
    """Paints a photo in a style.

        zoo.style.apply("cat.jpg", "mosaic").save("mosaic.png")
        zoo.style.apply("cat.jpg", {"mosaic": 0.5, "stars": 0.5}, size=1024)

    Johnson, Alahi and Fei-Fei 2016, arXiv 1603.08155; styles are blended as by Dumoulin, Shlens and
    Kudlur 2017, arXiv 1610.07629.

    Args:
      photo: an image of any kind.
      style: the name of a style, or {name: weight} to blend several; or styles that `train`
        returned, or the path of their checkpoint. None takes the only one of `styles`.
      styles: what `train` returned, or the path of its checkpoint, whose styles are meant; by
        default those that come with the package, see `list_styles`.
      size: the longer side of the result in pixels, to which the photo is enlarged or reduced. The
        larger it is, the finer the strokes. None keeps the photo's size.
      keep_colors: takes the brightness alone from the style (Gatys et al. 2016, arXiv 1606.05897).
      strength: from 0, the photo, to 1, the style.
      tile: the side of the largest picture that is computed at once, a multiple of 32; larger ones
        are put together from tiles. Memory grows with its square: at 1024 a process takes 0.6 GB.

    Returns:
      A picture in the photo's aspect.

    Raises:
      StyleError: there is no such style; the message lists them.
      ArgumentError: a number has another type or range.
      ImageError: it is no image, or has fewer than 32 pixels a side.
      CheckpointError: a checkpoint is missing, damaged or holds no styles.
    """
    options: StyleOptions = {
        "styles": styles,
        "size": size,
        "keep_colors": keep_colors,
        "strength": strength,
        "tile": tile,
    }
    painter = make_painter(style, options)
    pixels = load_pixels(photo, check_size(size))
    return Picture(painter(pixels[None])[0], painter.title)


def apply_all(
    photos: ImageSource | Iterable[ImageSource],
    style: Style | None = None,
    *,
    progress: Progress | None = None,
    **options: Unpack[StyleOptions],
) -> Iterator[Painted]:
    """Paints photos one after the other, and reads ahead.

    Args:
      photos: a folder, an image of any kind, or several.
      style: as of `apply`.
      progress: called after each photo with the number of those done, and of all.
      **options: further arguments of `apply`.

    Returns:
      An iterator of the photos in order. One that cannot be read has an error in place of a
      picture.

    Raises:
      ImageError: there are no photos.
      StyleError, ArgumentError, CheckpointError: as `apply`.
    """
    painter = make_painter(style, options)
    size = check_size(options.get("size"))
    sources = list_sources(photos)
    return _paint_all(painter, sources, size, progress)


def _paint_all(
    painter: Painter, sources: list[ImageSource], size: int | None, progress: Progress | None
) -> Iterator[Painted]:
    def read() -> Iterator[tuple[str, np.ndarray | ImageError]]:
        for number, source in enumerate(sources):
            name = name_source(source, number)
            try:
                yield name, load_pixels(source, size)
            except ImageError as error:
                yield name, error

    for done, (name, pixels) in enumerate(prefetch(read(), buffer_size=1), start=1):
        try:
            if isinstance(pixels, ImageError):
                raise pixels
            painted = Painted(name, Picture(painter(pixels[None])[0], painter.title), None)
        except ImageError as error:
            message = str(error) if name in str(error) else f"{name}: {error}"
            painted = Painted(name, None, ImageError(message))
        if progress is not None:
            progress(done, len(sources))
        yield painted


def apply_video(
    video: str | os.PathLike[str],
    path: str | os.PathLike[str],
    style: Style | None = None,
    *,
    progress: Progress | None = None,
    **options: Unpack[StyleOptions],
) -> Path:
    """Paints a video, frame by frame, and keeps its sound. Needs the extra `visualize`.

    Args:
      video: a file that ffmpeg reads.
      path: of the file to write, ending in ".mp4" or ".gif"; it appears complete or not at all.
      style: as of `apply`.
      progress: called with the number of frames done, and of all as far as is known.
      **options: further arguments of `apply`.

    Returns:
      The path.

    Raises:
      PictureError: the path has another ending.
      MissingExtraError: imageio-ffmpeg is not installed.
      ImageError: it is no video, or damaged.
      StyleError, ArgumentError, CheckpointError: as `apply`.
      OSError: the file cannot be written.
    """
    path = check_ending(path, VIDEO_ENDINGS)
    painter = make_painter(style, options)
    size = check_size(options.get("size"))
    source = open_video(video)
    check_video(path, source.fps)

    def paint() -> Iterator[np.ndarray]:
        done = 0
        for frames in prefetch(_group(read_frames(source), size)):
            # The last group is filled up, so that all have one shape.
            missing = FRAMES_AT_ONCE - len(frames)
            filled = np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)])
            yield from painter(filled)[: len(frames)]
            done += len(frames)
            if progress is not None:
                progress(done, max(source.frames, done))

    write_video(path, paint(), source.fps, sound=source.path)
    return path


def _group(frames: Iterator[np.ndarray], size: int | None) -> Iterator[np.ndarray]:
    group: list[np.ndarray] = []
    for frame in frames:
        group.append(load_pixels(frame, size))
        if len(group) == FRAMES_AT_ONCE:
            yield np.stack(group)
            group = []
    if group:
        yield np.stack(group)


def make_painter(style: Style | None, options: StyleOptions) -> Painter:
    """A painter of the arguments of `apply`."""
    given = dict(options)
    given.pop("size", None)
    styles, name = find_styles(style, options.get("styles"))
    given.pop("styles", None)
    weights = styles.weigh(name)
    parts = zip(styles.names, weights, strict=True)
    title = " + ".join(name for name, weight in parts if weight)
    return Painter(styles, weights, title, **given)  # type: ignore[arg-type]


def find_styles(
    style: Style | None, styles: Styles | str | os.PathLike[str] | None
) -> tuple[Styles, str | Mapping[str, float] | None]:
    """The styles that are meant, and which of them: see `apply`."""
    if isinstance(style, Styles):
        return style, None
    if styles is not None:
        found = styles if isinstance(styles, Styles) else load_styles(styles)
        if isinstance(style, os.PathLike):
            raise StyleError(describe_unknown(str(style), found.names))
        return found, style
    embedded = load_styles()
    if isinstance(style, os.PathLike):
        return load_styles(style), None
    if isinstance(style, str) and style not in embedded.names:
        if Path(style).is_dir():
            return load_styles(style), None
        raise StyleError(f"{describe_unknown(style, embedded.names)}; nor is it a checkpoint")
    return embedded, style


def check_size(size: int | None) -> int | None:
    """The argument `size`; ArgumentError where no picture can have it."""
    if size is not None:
        check_count("size", size, MIN_SIDE)
        if size > MAX_SIDE:
            raise ArgumentError(f"size must be at most {MAX_SIDE}, got {size}")
    return size


def take_colors(picture: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """The brightness of one image [H, W, 3], uint8, with the colours of another."""
    brightness = Image.fromarray(picture).convert("YCbCr").getchannel("Y")
    _, blue, red = Image.fromarray(photo).convert("YCbCr").split()
    return np.asarray(Image.merge("YCbCr", (brightness, blue, red)).convert("RGB"))
