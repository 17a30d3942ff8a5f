"""Draws curves as SVG, whose colours are those of the page that it is in."""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT = 400, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 10, 38
# A longer curve is drawn by the means of so many parts.
MAX_POINTS = 300
# A shorter curve has its points marked, with their values.
MAX_MARKED = 40
# Of a largest value that is more than so many times the median, the logarithm is drawn: otherwise
# most of the curve would lie flat at the bottom.
MAX_LINEAR = 20


class Curve(NamedTuple):
    """A named line through points; y may be NaN, where it has a gap."""

    name: str
    x: np.ndarray
    y: np.ndarray


def draw_curves(
    curves: Sequence[Curve], x_label: str, format_y: Callable[[float], str] = "{:g}".format
) -> str:
    """An `<svg>` of curves with axes and a legend; "" where there are no points.

    The y axis is logarithmic where a few values are far above the others, and none is 0 or less.
    The curves' elements have the classes "curve0", "curve1" …, to be coloured by the page.
    """
    drawn = {n: _shorten(curve) for n, curve in enumerate(curves) if np.isfinite(curve.y).any()}
    if not drawn:
        return ""
    x_ticks = _ticks(np.concatenate([curve.x for curve in drawn.values()]))
    y_values = np.concatenate([curve.y for curve in drawn.values()])
    logarithmic = y_values.min() > 0 and y_values.max() > MAX_LINEAR * np.median(y_values)
    y_ticks = _powers(y_values) if logarithmic else _ticks(y_values)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        low, high = y_ticks[0], y_ticks[-1]
        up = (y - low) / (high - low)
        if logarithmic:
            up = math.log(y / low) / math.log(high / low)
        return (
            round(LEFT + across * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1),
        )

    names = " and ".join(curve.name for curve in drawn.values())
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(names)}">']
    for tick in y_ticks:
        _, y = place(x_ticks[0], tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{format_y(tick)}</text>')
    for tick in x_ticks:
        x, y = place(tick, y_ticks[0])
        anchor = "end" if tick == x_ticks[-1] else "middle"  # within the drawing
        parts.append(f'<text x="{x}" y="{y + 16}" text-anchor="{anchor}">{tick:,.10g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{x_label}</text>')
    for number, curve in drawn.items():
        points = [(*place(x, y), y) for x, y in zip(curve.x, curve.y, strict=True) if y == y]
        line = " ".join(f"{x},{y}" for x, y, _ in points)
        parts.append(f'<g class="curve{number}"><polyline points="{line}"/>')
        for x, y, value in points if len(points) <= MAX_MARKED else ():
            label = html.escape(f"{curve.name}: {format_y(value)}")
            parts.append(f'<circle cx="{x}" cy="{y}" r="2.5"><title>{label}</title></circle>')
        parts.append("</g>")
    return "".join([*parts, "</svg>", _draw_legend(drawn) if len(curves) > 1 else ""])


def _draw_legend(curves: Mapping[int, Curve]) -> str:
    items = (
        f'<span class="curve{number}">{html.escape(curve.name)}</span>'
        for number, curve in curves.items()
    )
    return f'<p class="legend">{" ".join(items)}</p>'


def _shorten(curve: Curve) -> Curve:
    """The means of equal parts; points that are not finite are left out."""
    finite = np.isfinite(curve.y)
    x, y = curve.x[finite], curve.y[finite]
    starts = np.unique(np.linspace(0, len(x), min(len(x), MAX_POINTS), endpoint=False).astype(int))
    sizes = np.diff(starts, append=len(x))
    return Curve(curve.name, np.add.reduceat(x, starts) / sizes, np.add.reduceat(y, starts) / sizes)


def _ticks(values: np.ndarray) -> list[float]:
    """Round numbers at equal distances, about five, from below the least value to the largest."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    power = 10.0 ** math.floor(math.log10((high - low) / 5))
    step = next(power * n for n in (1, 2, 5, 10) if power * n * 5 >= (high - low) * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [n * step for n in range(first, last + 1)]


def _powers(values: np.ndarray) -> list[float]:
    """Powers of ten, at most seven, from below the least value to the largest; all are above 0."""
    first = math.floor(math.log10(values.min()) + 1e-9)
    last = math.ceil(math.log10(values.max()) - 1e-9)
    step = -(-(last - first) // 6)
    return [10.0**power for power in range(first, last + step, step)]
