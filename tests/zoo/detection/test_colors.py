import itertools

import numpy as np
import pytest

from zoo.detection import colors
from zoo.detection.colors import BLACK, PALETTE, WHITE, check_colors, label_colors, text_color
from zoo.runtime.checks import ArgumentError

NAMES = ["person", "bicycle", "car", "dog", "cat", "bus", "train", "sofa"]


def distance(one, other):
    return np.linalg.norm(np.diff(colors._to_oklab([one, other]), axis=0))


def test_oklab_has_its_published_values():
    # Of white and of sRGB's red, from https://bottosson.github.io/posts/oklab and CSS Color 4.
    np.testing.assert_allclose(colors._to_oklab([WHITE]), [[1, 0, 0]], atol=1e-4)
    np.testing.assert_allclose(
        colors._to_oklab([(255, 0, 0)]), [[0.62796, 0.22486, 0.12585]], atol=1e-4
    )


@pytest.mark.parametrize("label", NAMES)
def test_a_label_has_one_color(label):
    alone = label_colors([label])
    assert alone == label_colors([label])
    # Labels that come before it and have another colour do not change it.
    assert label_colors([label, "zebra crossing"])[label] == alone[label]


def test_colors_do_not_depend_on_order():
    assert label_colors(NAMES) == label_colors(NAMES[::-1] * 2)


def test_labels_that_appear_together_differ():
    for pair in itertools.combinations(NAMES, 2):
        one, other = label_colors(pair).values()
        assert distance(one, other) >= colors.CLEAR_DISTANCE
    many = label_colors(map(str, range(len(PALETTE))))
    assert len(set(many.values())) == len(PALETTE)


def test_more_labels_than_colors():
    assert len(label_colors(map(str, range(300)))) == 300


def test_no_labels():
    assert label_colors([]) == {}


def test_text_can_be_read():
    assert text_color(BLACK) == WHITE
    assert text_color(WHITE) == BLACK
    assert text_color((0, 0, 255)) == WHITE
    assert text_color((255, 255, 0)) == BLACK


def test_given_colors():
    given = {"a": "red", "b": "#ff8000", "c": (1, 2, 3), "d": np.array([4, 5, 6])}
    expected = {"a": (255, 0, 0), "b": (255, 128, 0), "c": (1, 2, 3), "d": (4, 5, 6)}
    assert check_colors(given) == expected


@pytest.mark.parametrize(
    "color", ["no colour", (1, 2), (1, 2, 256), (-1, 0, 0), None, 7, ("a",) * 3]
)
def test_wrong_colors(color):
    with pytest.raises(ArgumentError, match=r"colors must be .* for 'dog'"):
        check_colors({"dog": color})
