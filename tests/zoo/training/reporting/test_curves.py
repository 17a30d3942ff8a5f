"""Curves as SVG: where their points are, and what the axes say."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.training.reporting.curves import Curve, _powers, _ticks, draw_curves


def draw(*curves, **options):
    """The drawing's elements, and the rest of the HTML."""
    svg, _, rest = draw_curves(curves, "step", **options).partition("</svg>")
    return ElementTree.fromstring(svg + "</svg>"), rest


def axis(svg, name):
    """The positions and numbers of an axis's labels."""
    anchor = {"x": ("middle", "end"), "y": ("end",)}[name]
    other = "y" if name == "x" else "x"
    texts = [text for text in svg.iter("text") if text.text != "step"]
    rows = {}
    for text in texts:
        rows.setdefault(text.get(other), []).append(text)
    labels = max(rows.values(), key=len)
    assert all(text.get("text-anchor") in anchor for text in labels)
    places = [float(text.get(name)) - (4 if name == "y" else 0) for text in labels]
    return places, [float(text.text.replace(",", "")) for text in labels]


def points(svg, name):
    """The x and y of a curve in the units of the axes, as one reads them off the drawing."""
    (group,) = (group for group in svg.iter("g") if group.get("class") == name)
    places = np.array([pair.split(",") for pair in group[0].get("points").split()], float)
    read = []
    for column, direction in enumerate("xy"):
        where, numbers = axis(svg, direction)
        slope, offset = np.polyfit(where, numbers, 1)
        read.append(slope * places[:, column] + offset)
    return read


def test_points_are_where_the_axes_say():
    x, y = np.array([0, 250, 1000]), np.array([2.5, 0.7, 0.2])
    svg, rest = draw(Curve("loss", x, y))
    got_x, got_y = points(svg, "curve0")
    np.testing.assert_allclose(got_x, x, atol=1000 / 334 / 2)  # half of a unit of the drawing
    np.testing.assert_allclose(got_y, y, atol=2.5 / 172 / 2)
    assert rest == ""  # one curve needs no legend
    assert [circle[0].text for circle in svg.iter("circle")] == [
        "loss: 2.5", "loss: 0.7", "loss: 0.2"
    ]  # fmt: skip


def test_a_long_curve_is_drawn_by_means():
    x = np.arange(100_000)
    y = np.where(x % 2, 1.0, 3.0)
    svg, _ = draw(Curve("loss", x, y), Curve("scale", x[[0, -1]], np.array([0.0, 4.0])))
    got_x, got_y = points(svg, "curve0")
    assert 250 <= len(got_x) <= 300
    np.testing.assert_allclose(got_y, 2, atol=0.05)
    assert got_x[0] < 600
    assert got_x[-1] > 99_400
    assert len(list(svg.iter("circle"))) == 2


def test_values_that_are_not_finite_are_left_out():
    svg, _ = draw(Curve("loss", np.arange(4), np.array([1, np.nan, np.inf, 2])))
    np.testing.assert_allclose(points(svg, "curve0")[0], [0, 3], atol=0.01)
    assert draw_curves([Curve("loss", np.arange(2), np.full(2, np.nan))], "step") == ""
    assert draw_curves([Curve("loss", np.empty(0), np.empty(0))], "step") == ""


def test_curves_keep_their_colours_where_another_is_empty():
    none = Curve("training", np.empty(0), np.empty(0))
    svg, rest = draw(none, Curve("validation", np.arange(2), np.arange(2)))
    assert [group.get("class") for group in svg.iter("g")] == ["curve1"]
    assert rest == '<p class="legend"><span class="curve1">validation</span></p>'


def test_names_are_escaped():
    curves = [Curve('<b>&"x', np.arange(2), np.arange(2.0)), Curve("other", *np.eye(2))]
    svg, rest = draw(*curves)
    assert svg.get("aria-label") == '<b>&"x and other'
    assert "&lt;b&gt;&amp;" in rest
    assert "<b>" not in rest


def test_one_value_far_above_the_others_does_not_flatten_them():
    x, y = np.arange(5), np.array([700.0, 2.0, 1.5, 1.0, 0.5])
    svg, _ = draw(Curve("loss", x, y))
    (group,) = svg.iter("g")
    heights = [float(pair.split(",")[1]) for pair in group[0].get("points").split()]
    places, numbers = axis(svg, "y")
    slope, offset = np.polyfit(places, np.log10(numbers), 1)
    np.testing.assert_allclose(10 ** (slope * np.array(heights) + offset), y, rtol=0.03)
    assert numbers == [0.1, 1, 10, 100, 1000]
    # As is, where a logarithm has no place: the same values and 0.
    assert axis(draw(Curve("loss", x, y - 0.5))[0], "y")[1] == [0, 200, 400, 600, 800]


@given(st.floats(1e-30, 1e30), st.floats(30, 1e30))
def test_powers_of_ten_cover_the_values(low, ratio):
    ticks = _powers(np.array([low, low * ratio]))
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= low * (1 + 1e-6)
    assert ticks[-1] >= low * ratio * (1 - 1e-6)
    np.testing.assert_allclose(np.log10(ticks), np.round(np.log10(ticks)), atol=1e-6)


@given(
    st.floats(-1e9, 1e9).filter(lambda x: x == 0 or abs(x) > 1e-9),
    st.one_of(st.just(0.0), st.floats(1e-6, 1e9)),
)
def test_ticks_are_round_and_cover_the_values(low, size):
    high = low + size
    if high != low and high - low < 1e-5 * max(abs(low), abs(high)):
        return
    ticks = _ticks(np.array([low, high]))
    step = np.diff(ticks)
    assert 2 <= len(ticks) <= 8
    np.testing.assert_allclose(step, step[0], rtol=1e-3)
    mantissa = float(f"{step[0]:e}".partition("e")[0])
    assert round(mantissa, 2) in (1, 2, 5, 10)
    slack = 1e-3 * step[0]
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0, 1e-5])
def test_a_single_point_is_drawn_inside(value):
    svg, _ = draw(Curve("loss", np.array([7]), np.array([value])))
    (circle,) = svg.iter("circle")
    assert 52 <= float(circle.get("cx")) <= 386
    assert 10 <= float(circle.get("cy")) <= 182
