"""Converts decoded images and arrays of every kind to RGB of 8 bits.

Kinds whose conversion takes more memory than their result are converted a strip of rows at a time.
"""

from collections.abc import Callable, Iterator

import jax.numpy as jnp
import numpy as np
from PIL import ExifTags, Image, TiffTags

STRIP_PIXELS = 1 << 22

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


def to_upright_rgb(image: Image.Image) -> Image.Image:
    """Turns an image as its EXIF says and converts it to RGB; transparent pixels become white.

    Raises:
      ValueError: its samples have no defined white: signed or 32-bit integers, floating point
        beyond 0 to 1, NaN.
    """
    raw_mode = _raw_mode(image)
    tags = dict(getattr(image, "tag_v2", {}))
    image.load()  # afterwards Pillow no longer knows the raw mode
    rgb = _to_rgb(image, raw_mode, tags)
    turn = _TURNS.get(_orientation(image))
    return rgb if turn is None else rgb.transpose(turn)


def from_array(array: np.ndarray) -> Image.Image:
    """Makes an image of an array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4].

    Raises:
      ValueError: it has another shape, or is not uint8, uint16 or floating point from 0 to 1.
    """
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] not in (3, 4)):
        raise ValueError(f"an image array is [H, W] or [H, W, 1, 3 or 4], got {array.shape}")
    if array.dtype != np.uint8:
        rows = _rows_of_strip(array.shape[1])
        strips = [array[top : top + rows] for top in range(0, len(array), rows)]
        array = _to_8_bits(lambda: iter(strips), array.dtype, array.shape)
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


def _to_rgb(image: Image.Image, raw_mode: str, tags: dict[int, object]) -> Image.Image:
    if tags.get(_TIFF_TAGS["SampleFormat"], (1,)) == (_SIGNED,):
        raise ValueError("an image of signed integers has no defined white; convert it to uint8")
    transparent = image.info.get("transparency")
    if image.mode.startswith(("I", "F")):  # greyscale of more than 8 bits
        # Pillow reads some files of 16 bits to 32.
        is_uint16 = image.mode.startswith("I;16") or image.format in ("PNG", "PPM")
        dtype = np.dtype(np.float32 if image.mode == "F" else np.uint16 if is_uint16 else np.int32)
        grey = _to_8_bits(
            lambda: (np.asarray(strip) for strip, _ in _strips(image)),
            dtype,
            (image.height, image.width),
            white=_WHITE.get(raw_mode, 65535),
            inverted=tags.get(_TIFF_TAGS["PhotometricInterpretation"]) == _WHITE_IS_ZERO,
            transparent=transparent if isinstance(transparent, int) else None,
        )
        return Image.fromarray(grey).convert("RGB")
    if transparent is not None and raw_mode == "RGB;16B":
        raise ValueError("a PNG of 16-bit colour with a transparent colour cannot be read exactly")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    rgb = Image.new("RGB", image.size)
    for strip, box in _strips(image):
        if raw_mode in ("L;2", "L;4"):  # the transparent value is one of the file's 4 or 16
            strip.info["transparency"] = transparent * 255 // (2 ** int(raw_mode[2:]) - 1)
        rgba = strip.convert("RGBA")
        white = Image.new("RGBA", strip.size, "white")
        rgb.paste(Image.alpha_composite(white, rgba).convert("RGB"), box)
    return rgb


def _rows_of_strip(width: int) -> int:
    return max(1, STRIP_PIXELS // max(1, width))


def _strips(image: Image.Image) -> Iterator[tuple[Image.Image, tuple[int, int, int, int]]]:
    """Yields the image in strips of rows, and the box that each strip was cut from."""
    rows = _rows_of_strip(image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        yield image.crop(box), box


def _to_8_bits(
    strips: Callable[[], Iterator[np.ndarray]],
    dtype: np.dtype,
    shape: tuple[int, ...],
    *,
    white: float = 65535,
    inverted: bool = False,
    transparent: int | None = None,
) -> np.ndarray:
    """Scales samples to uint8.

    Args:
      strips: gives the array in strips of rows, twice.
      dtype, shape: of the array; its range is 0 to `white` for uint16, 0 to 1 for floats.
      inverted: whether 0 is white.
      transparent: a value that becomes white.
    """
    is_float = jnp.issubdtype(dtype, jnp.floating)  # bfloat16 too
    if is_float or dtype.kind != "u" or dtype.itemsize != 2:
        limits = [(strip.min(initial=0), strip.max(initial=0)) for strip in strips()]
        low = np.min([low for low, _ in limits], initial=0)
        high = np.max([high for _, high in limits], initial=0)
        if not (is_float and low >= 0 and high <= 1):
            raise ValueError(
                "an image array is uint8, uint16, or floating point from 0 to 1; "
                f"got {dtype} from {low} to {high}"
            )
        white = 1
    result = np.empty(shape, np.uint8)
    top = 0
    for strip in strips():
        scaled = strip.astype(np.float32) * np.float32(255 / white)
        scaled = 255 - scaled if inverted else scaled
        if transparent is not None:
            scaled[strip == transparent] = 255
        result[top : top + len(strip)] = np.round(scaled)
        top += len(strip)
    return result
