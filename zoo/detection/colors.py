"""A colour for each class, in which its boxes are drawn."""

import colorsys
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import ImageColor

from zoo.runtime.checks import ArgumentError

Color = tuple[int, int, int]

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
# Colours nearer than this in OKLab, where black and white are 1 apart, are hard to tell apart.
CLEAR_DISTANCE = 0.15
# Darker lines are lost in dark photos.
MIN_LUMINANCE = 0.18
# From linear RGB to the responses of the eye's cones, and from their cube roots to lightness,
# green to red, and blue to yellow: B. Ottosson 2020, https://bottosson.github.io/posts/oklab.
_TO_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_TO_OKLAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


def label_colors(labels: Iterable[str]) -> dict[str, Color]:
    """A colour for each label as (red, green, blue), chosen by its name.

    A label whose colour is hard to tell from that of another one, earlier in the alphabet, gets a
    different one. To keep a label's colour the same in many pictures, such as those of a film, call
    this once with all labels of the detector.
    """
    colors: dict[str, Color] = {}
    for label in sorted(set(labels)):
        start = zlib.crc32(label.encode()) % len(PALETTE)
        colors[label] = _pick((*PALETTE[start:], *PALETTE[:start]), list(colors.values()))
    return colors


def check_colors(colors: Mapping[str, Color | str]) -> dict[str, Color]:
    """Colours by label as (red, green, blue).

    Args:
      colors: as (red, green, blue), each from 0 to 255, or names such as "red" or "#ff8000".

    Raises:
      ArgumentError: one is none of these.
    """
    result: dict[str, Color] = {}
    for label, color in colors.items():
        try:
            red, green, blue = ImageColor.getrgb(color)[:3] if isinstance(color, str) else color
            result[label] = (int(red), int(green), int(blue))
            bytes(result[label])  # of which each is from 0 to 255
        except (TypeError, ValueError) as error:
            raise ArgumentError(
                'colors must be (red, green, blue) from 0 to 255, or names such as "red" or '
                f'"#ff8000", got {color!r} for {label!r}'
            ) from error
    return result


def text_color(background: Color) -> Color:
    """Black or white, whichever has more contrast with the background, as WCAG 2 defines it."""
    light = _luminance(background) + 0.05
    return BLACK if light / 0.05 > 1.05 / light else WHITE


def _pick(candidates: Sequence[Color], taken: Sequence[Color]) -> Color:
    """The first colour that differs clearly from those taken; else the one that differs most."""
    if not taken:
        return candidates[0]
    difference = _to_oklab(candidates)[:, None] - _to_oklab(taken)
    nearest = np.linalg.norm(difference, axis=-1).min(axis=1)
    clear = np.flatnonzero(nearest >= CLEAR_DISTANCE)
    return candidates[clear[0] if clear.size else nearest.argmax()]


def _to_oklab(colors: Sequence[Color]) -> np.ndarray:
    """Colours in a space where distances are as the eye sees them [n, 3]."""
    return np.cbrt(_to_linear(colors) @ np.transpose(_TO_CONES)) @ np.transpose(_TO_OKLAB)


def _to_linear(colors: Sequence[Color] | Color) -> np.ndarray:
    """The intensities of red, green and blue light, from 0 to 1."""
    values = np.asarray(colors) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _luminance(color: Color) -> float:
    """How bright a colour is, from 0 to 1."""
    return float(_to_linear(color) @ (0.2126, 0.7152, 0.0722))


def _make_palette(count: int) -> tuple[Color, ...]:
    """Bright colours; their hues are a golden angle apart, so that neighbours differ clearly."""
    golden = (math.sqrt(5) - 1) / 2
    colors: list[Color] = []
    for i in range(count):
        rgb = colorsys.hls_to_rgb(i * golden % 1, (0.6, 0.45, 0.75)[i % 3], 0.95)
        red, green, blue = (round(255 * value) for value in rgb)
        colors.append((red, green, blue))
    return tuple(color for color in colors if _luminance(color) >= MIN_LUMINANCE)


PALETTE = _make_palette(144)
