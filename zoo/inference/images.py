"""Reads images of any kind and makes normalised arrays of them."""

import functools
import io
import math
import os
import re
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from zoo.inference.image_metadata import strip_metadata
from zoo.inference.pixels import PixelError, from_array, to_upright_rgb, upright_size

ImageSource = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | ArrayLike
)

# (width, height) of an upright image → pixels of its shorter side.
MinSide = Callable[[int, int], float]

# Pillow's names of the formats that are opened, in the order in which they are tried. Its other
# formats are of no use for photos, and one of them starts a program (EPS: Ghostscript).
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "DIB", "GIF", "JPEG2000", "PPM")

# With as many pixels memory stays below 1 GiB. The decoders of some formats need more for each
# pixel, and Pillow warns of larger TIFFs.
MAX_PIXELS = 100_000_000
_MAX_PIXELS_OF = {
    "JPEG2000": 30_000_000,
    "WEBP": 50_000_000,
    "AVIF": 50_000_000,
    "TIFF": 89_000_000,
}

# What comes from a pipe is held in memory.
MAX_BYTES = 256 << 20

# A smaller image shows nothing to recognise: resizing it only invents pixels.
MIN_SIDE = 8


class ImageError(ValueError):
    """Something that should be an image is not; the message names the file or the value."""


def load_image(
    source: ImageSource, *, max_pixels: int | None = None, min_side: MinSide | None = None
) -> Image.Image:
    """Loads an image of any kind as an upright RGB image.

    Args:
      source: a path, an encoded image's bytes, a file that is open for reading bytes, a PIL image,
        or an array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]: uint8, uint16, or floating point from
        0 to 1. Tensors of other frameworks are arrays where NumPy can read them.
      max_pixels: the largest image that is opened, width times height; by default 100 million, and
        fewer for formats whose decoders need more memory. PIL images and arrays have no limit.
      min_side: lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its size, which is faster: (width,
        height) → how many pixels its shorter side must keep. None decodes it in full.

    EXIF's orientation is applied where it can be read; other metadata is ignored. Palettes, CMYK
    and greyscale become RGB; 16 bits become 8; transparent pixels become white; of an animation the
    first frame is taken. A file that can seek is left at its position, and can be read again.

    Raises:
      ImageError: a file is missing, unreadable, truncated or not an image of `FORMATS`, or an image
        has fewer than 8 pixels a side or more than `max_pixels`; the message names the file.
    """
    if isinstance(source, Image.Image):
        image = _to_rgb(source, getattr(source, "filename", "") or "the image")
        return image.copy() if image is source else image
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(io.BytesIO(source), "the image", max_pixels, min_side)
    if isinstance(source, str | os.PathLike) and str(source).endswith(".npy"):
        return load_image(load_array(source))
    if isinstance(source, str | os.PathLike):
        return _load_path(Path(source), max_pixels, min_side)
    if hasattr(source, "read"):
        return _load_stream(source, max_pixels, min_side)
    if not hasattr(source, "__array__"):
        kind = type(source).__name__
        raise ImageError(
            f"an image is a path, bytes, an open file, a PIL image or an array, got {kind}"
        )
    try:
        array = np.asarray(source)
    except Exception as error:  # of the framework whose tensor it is
        raise ImageError(
            f"the {type(source).__name__} is no NumPy array: {_cause(error)}"
        ) from error
    if array.ndim == 0 and array.dtype.kind in "OUST":
        return load_image(array.item(), max_pixels=max_pixels)
    try:
        return _to_rgb(from_array(array), "the array")
    except PixelError as error:
        raise ImageError(str(error)) from error


def load_bands(source: ImageSource, count: int) -> list[Image.Image]:
    """Loads an array [H, W, count] as a grey image for each of its channels.

    Args:
      source: an array, a tensor that NumPy can read, or the path of a file that `numpy.save`
        wrote: uint8, uint16, or floating point from 0 to 1.
      count: the number of channels.

    Raises:
      ImageError: it is something else.
    """
    kind = type(source).__name__
    if isinstance(source, str | os.PathLike) and str(source).endswith(".npy"):
        source = load_array(source)
    array = np.asarray(source) if hasattr(source, "__array__") else np.empty(0)
    if isinstance(source, Image.Image) or array.ndim != 3 or array.shape[2] != count:
        got = array.shape if array.size else kind
        raise ImageError(f"an image of {count} channels is an array [H, W, {count}], got {got}")
    return [load_image(array[..., band]).convert("L") for band in range(count)]


def load_array(path: str | os.PathLike[str]) -> np.ndarray:
    """Loads an array that `numpy.save` wrote; ImageError if it cannot be read."""
    try:
        # Mapped, so that a header cannot ask for more memory than the file fills.
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        cause = getattr(error, "strerror", None) or error
        raise ImageError(f"{path} cannot be read as an array: {cause}") from error


def _load_path(path: Path, max_pixels: int | None, min_side: MinSide | None) -> Image.Image:
    if re.match(r"\w{2,}:/", str(path)):
        raise ImageError(f"{path} is an address, not a file; download it first")
    try:
        if path.is_dir():
            any(path.iterdir())  # raises where it may not be read
            raise ImageError(f"{path} is a folder without images")
        if not (path.is_file() or path.is_fifo()) and path.exists():
            raise ImageError(f"{path} is a device or a socket, not a file")
        with path.open("rb") as file:
            return _decode(file, str(path), max_pixels, min_side)
    except ImageError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a text that cannot be a path
        cause = getattr(error, "strerror", None) or error
        raise ImageError(f"{path} cannot be read: {cause}") from error


def _load_stream(stream: Any, max_pixels: int | None, min_side: MinSide | None) -> Image.Image:
    name = getattr(stream, "name", None)
    name = name if isinstance(name, str) else "the image"
    if isinstance(stream, io.TextIOBase):
        raise ImageError(f"{name} is open for reading text; open it for reading bytes, as 'rb'")
    try:
        start = stream.tell() if hasattr(stream, "seekable") and stream.seekable() else None
        image = _decode(stream, name, max_pixels, min_side)
        if start is not None:
            stream.seek(start)
        return image
    except ImageError:
        raise
    except Exception as error:  # of whatever kind of file it is
        raise ImageError(f"{name} cannot be read: {_cause(error)}") from error


def find_photos(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """Yields files as they are, and for a folder the photos anywhere below it, sorted by name.

    Photos are regular files whose names end as those of `FORMATS` do. Hidden files and folders are
    left out, Apple's "._" files among them. Links are followed, to each folder once.

    Raises no errors: a folder without photos, or one that may not be read, is yielded itself, so
    that `load_image` complains of it.
    """
    for path in map(Path, paths):
        yield from _photos_below(path) or [path]


def _photos_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    visited: set[tuple[int, int]] = set()
    endings = extensions()
    # `walk` reports a path that is not a folder as an error.
    walk = os.walk(folder, followlinks=True, onerror=lambda e: found.append(Path(e.filename)))
    for parent, folders, names in walk:
        state = Path(parent).stat()
        if (state.st_dev, state.st_ino) in visited:
            folders.clear()
            continue
        visited.add((state.st_dev, state.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        photos = [Path(parent, name) for name in names if not name.startswith(".")]
        found.extend(
            path for path in photos if path.suffix.lower() in endings and not _is_special(path)
        )
    return sorted(found)


@functools.cache
def extensions() -> frozenset[str]:
    """The endings of photos' names, such as ".jpg"; a file that is named itself may have any."""
    known = Image.registered_extensions()
    return frozenset(ending for ending, name in known.items() if name in (*FORMATS, "MPO"))


def _is_special(path: Path) -> bool:
    """Whether it is a pipe, a device or a socket, whose reading may never end."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:  # `load_image` says why it cannot be read
        return False


def is_single_image(images: Any) -> bool:
    """Whether this is one image, rather than a sequence of images or a batch [N, H, W, C]."""
    if isinstance(images, str | bytes | bytearray | memoryview | os.PathLike | Image.Image):
        return True
    if hasattr(images, "read"):
        return True
    if hasattr(images, "__array__"):
        dimensions = np.ndim(images)
        # Of one dimension are arrays and Series of paths; numbers would be no image either.
        return dimensions < 4 and not (dimensions == 1 and np.asarray(images).dtype.kind in "OUST")
    return not isinstance(images, Iterable) or isinstance(images, Mapping)


def _decode(
    file: IO[bytes], name: str, max_pixels: int | None, min_side: MinSide | None
) -> Image.Image:
    """Reads an image from a file; what Pillow refuses is tried again without its metadata."""
    if not (hasattr(file, "seekable") and file.seekable()):
        data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ImageError(f"{name} holds more than {MAX_BYTES >> 20} MiB")
        file = io.BytesIO(data)
    start = file.tell()
    if not file.read(1):
        raise ImageError(f"{name} is empty")
    file.seek(start)
    try:
        return _open(file, name, max_pixels, min_side)
    except ImageError:
        file.seek(start)
        data = file.read(MAX_BYTES)
        stripped = strip_metadata(data)
        if len(stripped) == len(data):
            raise
        return _open(io.BytesIO(stripped), name, max_pixels, min_side)


def _open(
    file: IO[bytes], name: str, max_pixels: int | None, min_side: MinSide | None
) -> Image.Image:
    image = _identify(file, name)
    limit = _MAX_PIXELS_OF.get(image.format or "", MAX_PIXELS) if max_pixels is None else max_pixels
    if image.width * image.height > limit:
        raise ImageError(
            f"{name} has too many pixels, {image.width}x{image.height}: at most "
            f"{limit / 1e6:g} million are opened, or max_pixels of zoo.inference.images.load_image"
        )
    if min_side is not None and min(image.size) >= MIN_SIDE:
        scale = min_side(*upright_size(image)) / min(image.size)
        image.draft(None, (math.ceil(image.width * scale), math.ceil(image.height * scale)))
    return _to_rgb(image, name)


def _identify(file: IO[bytes], name: str) -> Image.Image:
    """Reads an image's header.

    `PIL.Image.open` does the same, but warns of many pixels; to silence a warning changes the state
    of the whole process, which threads must not do.
    """
    Image.init()
    start = file.tell()
    # Pillow's checks of a format take it that the first bytes are there.
    prefix = file.read(16).ljust(16, b"\0")
    for name_of_format in FORMATS:
        factory, accept = Image.OPEN.get(name_of_format, (None, None))
        if factory is None or (accept and accept(prefix) is not True):
            continue
        file.seek(start)
        try:
            return factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue  # as Pillow says that it is another format
        except Exception as error:
            raise _damaged(name, error) from error
    raise ImageError(f"{name} is not an image of a known format")


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Converts to upright RGB; any error becomes an ImageError."""
    if min(image.size) < MIN_SIDE:
        raise ImageError(
            f"{name} is {image.width}x{image.height} pixels; an image has {MIN_SIDE} a side or more"
        )
    try:
        return to_upright_rgb(image)
    except PixelError as error:
        raise ImageError(f"{name} cannot be shown: {error}") from error
    except Exception as error:  # each of Pillow's decoders raises errors of its own
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> ImageError:
    return ImageError(f"{name} is damaged or truncated: {_cause(error)}")


def _cause(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
