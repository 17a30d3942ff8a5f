"""Converts decoded images and arrays of every kind to RGB of 8 bits.

Kinds whose conversion takes more memory than their result are converted a strip of rows at a time.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import ExifTags, Image, TiffTags

STRIP_PIXELS = 1 << 20


class PixelError(ValueError):
    """An array or a decoded image is none that can be shown."""


# The value of white in files whose samples fill only a part of the 16 bits that they are read to.
_WHITE = {"I;12": 4095}
_TIFF_TAGS = {tag.name: number for number, tag in TiffTags.TAGS_V2.items()}
_SIGNED, _WHITE_IS_ZERO = 2, 0  # values of TIFF's SampleFormat and PhotometricInterpretation

_TRANSPOSE = Image.Transpose
# How the stored image is turned to be upright, for each value of EXIF's orientation.
_TURNS = {
    2: _TRANSPOSE.FLIP_LEFT_RIGHT,
    3: _TRANSPOSE.ROTATE_180,
    4: _TRANSPOSE.FLIP_TOP_BOTTOM,
    5: _TRANSPOSE.TRANSPOSE,
    6: _TRANSPOSE.ROTATE_270,
    7: _TRANSPOSE.TRANSVERSE,
    8: _TRANSPOSE.ROTATE_90,
}
_TRANSPOSED = (5, 6, 7, 8)
# Where an image's own facts say how it is to be turned.
_SAYS_ORIENTATION = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")


def to_upright_rgb(image: Image.Image) -> Image.Image:
    """Turns an image as its EXIF says and converts it to RGB; transparent pixels become white.

    Raises:
      PixelError: its samples have no defined white: signed or 32-bit integers, floating point
        beyond 0 to 1, NaN.
    """
    raw_mode = _raw_mode(image)
    tags: dict[int, object] = dict(getattr(image, "tag_v2", {}))
    image.load()  # afterwards Pillow no longer knows the raw mode
    rgb = _to_rgb(image, raw_mode, tags)
    turn = _TURNS.get(_orientation(image))
    if turn is None:
        return rgb
    turned = rgb.transpose(turn)
    for name in _SAYS_ORIENTATION:  # else who loads the result would turn it again
        turned.info.pop(name, None)
    return turned


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an image when it is turned as its EXIF says."""
    width, height = image.size
    return (height, width) if _orientation(image) in _TRANSPOSED else (width, height)


def from_array(array: np.ndarray) -> Image.Image:
    """Makes an image of an array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4].

    Raises:
      PixelError: it has another shape, or is not uint8, uint16 or floating point from 0 to 1.
    """
    if array.dtype.kind in "OSTU":
        raise PixelError(f"an image array holds numbers, got {array.dtype} of shape {array.shape}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] not in (3, 4)):
        raise PixelError(f"an image array is [H, W] or [H, W, 1, 3 or 4], got {array.shape}")
    if array.dtype != np.uint8:
        is_uint16 = array.dtype.kind == "u" and array.dtype.itemsize == 2
        rows = max(1, STRIP_PIXELS // max(1, array.shape[1]))
        strips = [array[top : top + rows] for top in range(0, len(array), rows)]
        if not is_uint16:
            _check_range(array.dtype, strips)
        white = 65535 if is_uint16 else 1
        array = np.concatenate([_to_8_bits(strip, white) for strip in strips] or [array])
    return Image.fromarray(array)


def _raw_mode(image: Image.Image) -> str:
    """How the file stores samples, in Pillow's words, such as "L;4"; "" if that is not known."""
    for tile in getattr(image, "tile", ()):
        mode = tile[3] if isinstance(tile[3], str) else next(iter(tile[3] or ()), "")
        return mode if isinstance(mode, str) else ""
    return ""


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 where there is none that can be read."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # what metadata may hold has no end, and pixels do not depend on it
        return 1


def _to_rgb(image: Image.Image, raw_mode: str, tags: Mapping[int, object]) -> Image.Image:
    if tags.get(_TIFF_TAGS["SampleFormat"], (1,)) == (_SIGNED,):
        raise PixelError("an image of signed integers has no defined white; convert it to uint8")
    transparent: Any = image.info.get("transparency")
    if transparent is not None and raw_mode == "RGB;16B":
        raise PixelError("a PNG of 16-bit colour with a transparent colour cannot be read exactly")
    if image.mode.startswith(("I", "F")):
        return _join_strips(image, _convert_grey(image, raw_mode, tags))
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if transparent is not None and raw_mode in ("L;2", "L;4"):  # one of the file's 4 or 16 values
        transparent = transparent * 255 // (2 ** int(raw_mode[2:]) - 1)

    def lay_on_white(strip: Image.Image) -> Image.Image:
        if transparent is not None:
            strip.info["transparency"] = transparent
        rgba = strip.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", strip.size, "white"), rgba).convert("RGB")

    return _join_strips(image, lay_on_white)


def _convert_grey(
    image: Image.Image, raw_mode: str, tags: Mapping[int, object]
) -> Callable[[Image.Image], Image.Image]:
    """A function that converts strips of a greyscale image of more than 8 bits."""
    # Pillow reads some files of 16 bits to 32.
    is_uint16 = image.mode.startswith("I;16") or image.format in ("PNG", "PPM")
    dtype = np.dtype(np.float32 if image.mode == "F" else np.uint16 if is_uint16 else np.int32)
    if dtype != np.uint16:
        _check_range(dtype, (np.asarray(strip) for strip, _ in _strips(image)))
    white = 1 if image.mode == "F" else _WHITE.get(raw_mode, 65535)
    inverted = tags.get(_TIFF_TAGS["PhotometricInterpretation"]) == _WHITE_IS_ZERO
    transparent = image.info.get("transparency")

    def convert(strip: Image.Image) -> Image.Image:
        samples = np.asarray(strip)
        grey = _to_8_bits(samples, white)
        grey = 255 - grey if inverted else grey
        if transparent is not None:
            grey = np.where(samples == transparent, np.uint8(255), grey)
        return Image.fromarray(grey).convert("RGB")

    return convert


def _strips(image: Image.Image) -> Iterator[tuple[Image.Image, tuple[int, int, int, int]]]:
    """Yields the image in strips of rows, and the box that each strip was cut from."""
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        yield image.crop(box), box


def _join_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """An RGB image of the converted strips."""
    rgb = Image.new("RGB", image.size)
    for strip, box in _strips(image):
        rgb.paste(convert(strip), box)
    return rgb


def _check_range(dtype: np.dtype, strips: Iterable[np.ndarray]) -> None:
    """Raises PixelError unless samples, uint16 aside, are floating point from 0 to 1."""
    limits = [(strip.min(initial=0), strip.max(initial=0)) for strip in strips]
    low = np.min([low for low, _ in limits], initial=0)
    high = np.max([high for _, high in limits], initial=0)
    if not (jnp.issubdtype(dtype, jnp.floating) and low >= 0 and high <= 1):  # bfloat16 too
        raise PixelError(
            "an image array is uint8, uint16, or floating point from 0 to 1; "
            f"got {dtype} from {low} to {high}"
        )


def _to_8_bits(samples: np.ndarray, white: float) -> np.ndarray:
    """Scales samples from 0 to `white` to uint8."""
    return np.round(samples.astype(np.float32) * np.float32(255 / white)).astype(np.uint8)
