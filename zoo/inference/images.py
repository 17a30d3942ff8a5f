"""Reads images of any kind and makes normalised arrays of them."""

import dataclasses
import io
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

ImageSource = str | os.PathLike[str] | bytes | Image.Image | np.ndarray

# The photos of a folder are files that end so; a file that is named itself may be called anything.
EXTENSIONS = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".jp2", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)

# A smaller image shows nothing to recognise: resizing it only invents pixels.
MIN_SIDE = 8

_INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


class ImageError(ValueError):
    """Something that should be an image is not; the message names the file or the value."""


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of a model's images: resize, crop the centre, normalise.

    Args:
      size: height and width of the model's input, in pixels.
      resize: the length in pixels to which the image's shorter side is resized; the centre of the
        resized image is cropped.
      interpolation: "bilinear", "bicubic", "lanczos" or "nearest", antialiased.
      mean, std: of each channel, where black is 0 and white is 1: (pixel − mean) / std.
      channels: "RGB" or "BGR".
    """

    size: int
    resize: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channels: str = "RGB"

    @classmethod
    def from_metadata(cls, fields: Mapping[str, Any]) -> "Preprocessing":
        """Makes it from the JSON of a checkpoint's metadata."""
        mean, std = tuple(fields["mean"]), tuple(fields["std"])
        return cls(**{**fields, "mean": mean, "std": std})

    def __call__(self, images: ImageSource | Iterable[ImageSource]) -> np.ndarray:
        """One image or several → [N, size, size, 3], float32, normalised.

        Raises:
          ImageError: there are no images, or something is not an image.
        """
        sources = _list_images(images)
        if not sources:
            raise ImageError("at least one image is needed, got no images")
        batch = np.stack([self._resize_and_crop(load_image(source)) for source in sources])
        batch = batch if self.channels == "RGB" else batch[..., ::-1]
        # The constants are scaled to the pixels in float64, so that 127/255 is 127 again.
        mean, std = (np.float32(255 * np.asarray(value)) for value in (self.mean, self.std))
        return (batch.astype(np.float32) - mean) / std

    def _resize_and_crop(self, image: Image.Image) -> np.ndarray:
        """Resizes the shorter side and crops the centre in one step, which computes no more."""
        width, height = image.size
        resized = [side * self.resize // min(width, height) for side in (width, height)]
        # The corners of the centre, in the resized image and then in the original.
        corner = [round((side - self.size) / 2) for side in resized]
        ratio = [old / new for old, new in zip((width, height), resized, strict=True)]
        left, top = (c * r for c, r in zip(corner, ratio, strict=True))
        right, bottom = ((c + self.size) * r for c, r in zip(corner, ratio, strict=True))
        box = (left, top, min(right, width), min(bottom, height))
        cropped = image.resize((self.size, self.size), _INTERPOLATIONS[self.interpolation], box)
        return np.asarray(cropped)


def load_image(source: ImageSource) -> Image.Image:
    """Loads an image of any kind as an upright RGB image.

    Args:
      source: a path, an encoded image's bytes, a PIL image, or an array [H, W], [H, W, 1],
        [H, W, 3] or [H, W, 4]: uint8, uint16, or floating point from 0 to 1.

    EXIF's orientation is applied; palettes, CMYK and greyscale become RGB; 16 bits become 8;
    transparent pixels become white; of an animation the first frame is taken.

    Raises:
      ImageError: a file is missing, unreadable, truncated or not an image, or an image has fewer
        than 8 pixels a side or too many to be safe; the message names the file.
    """
    if isinstance(source, Image.Image):
        return _convert(getattr(source, "filename", "") or "the image", lambda: source)
    if isinstance(source, bytes):
        return _convert("the image", lambda: Image.open(io.BytesIO(source)))
    if hasattr(source, "__array__"):
        return _convert("the array", lambda: _from_array(np.asarray(source)))
    if not isinstance(source, str | os.PathLike):
        kind = type(source).__name__
        raise ImageError(f"an image is a path, bytes, a PIL image or an array, got {kind}")
    path = Path(source)
    try:
        if path.is_dir():
            any(path.iterdir())  # raises where it may not be read
            raise ImageError(f"{path} is a folder without images")
        with path.open("rb") as file:
            data = file if file.seekable() else io.BytesIO(file.read())
            if not data.read(1):
                raise ImageError(f"{path} is empty")
            data.seek(0)
            return _convert(str(path), lambda: Image.open(data))
    except ImageError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a text that cannot be a path
        cause = getattr(error, "strerror", None) or error
        raise ImageError(f"{path} cannot be read: {cause}") from error


def find_photos(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """Yields files as they are, and for a folder the photos anywhere below it, sorted by name.

    Raises no errors: a folder without photos, or one that may not be read, is yielded itself, so
    that `load_image` complains of it.
    """
    for path in map(Path, paths):
        yield from _photos_below(path) or [path]


def _photos_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    # `walk` reports a path that is not a folder as an error.
    for parent, _, names in os.walk(folder, onerror=lambda e: found.append(Path(e.filename))):
        photos = [name for name in names if Path(name).suffix.lower() in EXTENSIONS]
        found.extend(Path(parent, name) for name in photos)
    return sorted(found)


def is_single_image(images: Any) -> bool:
    """Whether this is one image, rather than a sequence of images or a batch [N, H, W, C]."""
    if hasattr(images, "__array__"):
        return np.ndim(images) < 4
    return not isinstance(images, Iterable) or isinstance(images, str | bytes)


def _list_images(images: Any) -> list[ImageSource]:
    return [images] if is_single_image(images) else list(images)


def _convert(name: str, open_image: Callable[[], Image.Image]) -> Image.Image:
    """Opens an image and makes it upright RGB; any error of Pillow becomes an ImageError."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata, and of more than 90 million pixels, which cameras have;
            # for twice as many it raises an error.
            warnings.simplefilter("ignore")
            image = open_image()
            if (
                image.mode == "I" and image.format is not None
            ):  # Pillow's mode for some files of 16 bits
                image = image.convert("I;16")
            width, height = image.size
            if min(width, height) < MIN_SIDE:
                raise ImageError(
                    f"{name} is {width}x{height} pixels; an image has {MIN_SIDE} a side or more"
                )
            return _to_rgb(ImageOps.exif_transpose(image))
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image of a known format") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} has too many pixels to be safe to open") from error
    except Exception as error:  # each of Pillow's decoders raises errors of its own
        cause = str(error).partition("\n")[0] or type(error).__name__
        raise ImageError(f"{name} is damaged or truncated: {cause}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # greyscale of more than 8 bits
        image = _from_array(np.asarray(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] not in (3, 4)):
        raise ImageError(f"an image array is [H, W] or [H, W, 1, 3 or 4], got {array.shape}")
    dtype = array.dtype
    if jnp.issubdtype(dtype, jnp.floating):  # bfloat16 too
        array = array.astype(np.float32)
    low, high = array.min(initial=0), array.max(initial=0)
    if array.dtype == np.float32 and low >= 0 and high <= 1:
        array = array * 255
    elif dtype.kind == "u" and dtype.itemsize == 2:
        array = array / 257
    elif dtype != np.uint8:
        raise ImageError(
            "an image array is uint8, uint16, or floating point from 0 to 1; "
            f"got {dtype} from {low} to {high}"
        )
    return Image.fromarray(np.round(array).astype(np.uint8))
