import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from zoo.detection.evaluation import matching
from zoo.detection.evaluation.metrics import Found, Truth, evaluate_detections
from zoo.runtime.checks import ArgumentError

SMALL, MEDIUM, LARGE = [0, 0, 20, 20], [0, 0, 50, 50], [0, 0, 100, 100]
AWAY = [200, 200, 250, 250]


def evaluate(boxes, guesses, scores, **truth):
    """Figures of one image and class."""
    one = Truth(boxes, np.zeros(len(boxes), int), **truth)
    found = Found(guesses, scores, np.zeros(len(guesses), int))
    return evaluate_detections([one], [found], 1)


def test_everything_found():
    figures = evaluate([SMALL, LARGE], [SMALL, LARGE], [0.3, 0.9])
    assert figures.ap == figures.ap50 == figures.ap75 == 1
    assert figures.ap_small == figures.ap_large == figures.ar_small == figures.ar_large == 1
    assert np.isnan(figures.ap_medium)
    assert np.isnan(figures.ar_medium)
    assert (figures.ar1, figures.ar10, figures.ar100) == (0.5, 1, 1)


def test_half_of_the_objects_found():
    figures = evaluate([MEDIUM, AWAY], [MEDIUM], [0.9])
    # Precision is 1 at the recalls 0, 0.01 … 0.5 and 0 at the other 50.
    assert figures.ap == pytest.approx(51 / 101)
    assert figures.ar100 == 0.5


def test_a_surer_wrong_detection_halves_precision():
    assert evaluate([MEDIUM], [AWAY, MEDIUM], [0.9, 0.8]).ap == pytest.approx(0.5)
    assert evaluate([MEDIUM], [AWAY, MEDIUM], [0.8, 0.9]).ap == 1


def test_a_second_detection_of_an_object_is_wrong():
    figures = evaluate([MEDIUM, AWAY], [MEDIUM, MEDIUM, AWAY], [0.9, 0.8, 0.7])
    assert figures.ap == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_loose_boxes_count_at_low_ious():
    figures = evaluate([LARGE], [[0, 0, 100, 62]], [0.9])  # an IoU of 0.62
    assert (figures.ap50, figures.ap75) == (1, 0)
    assert figures.ap == pytest.approx(3 / 10)
    assert figures.ar100 == pytest.approx(3 / 10)


def test_detections_in_a_crowd_are_not_counted():
    boxes, crowd = [MEDIUM, [100, 100, 300, 300]], [False, True]
    inside = [[120, 120, 150, 150], [130, 120, 160, 150], [0, 0, 50, 50]]
    assert evaluate(boxes, inside, [0.9, 0.8, 0.7], crowd=crowd).ap == 1
    assert evaluate(boxes, inside, [0.9, 0.8, 0.7]).ap < 0.5


def test_only_a_crowd_is_no_object():
    assert np.isnan(evaluate([LARGE], [LARGE], [0.9], crowd=[True]).ap)


def test_an_object_is_preferred_to_a_crowd():
    # The crowd's overlap is 1, the object's 0.62.
    figures = evaluate([LARGE, LARGE], [[0, 0, 100, 62]], [0.9], crowd=[False, True])
    assert figures.ar100 == pytest.approx(3 / 10)


def test_detections_of_other_sizes_are_not_counted():
    figures = evaluate([SMALL], [AWAY, SMALL], [0.9, 0.8])
    assert figures.ap == pytest.approx(0.5)
    assert figures.ap_small == 1


def test_limits_belong_to_both_sizes():
    figures = evaluate([[0, 0, 32, 32]], [[0, 0, 32, 32]], [0.5])
    assert figures.ap_small == figures.ap_medium == 1
    figures = evaluate([[0, 0, 96, 96]], [[0, 0, 96, 96]], [0.5])
    assert figures.ap_medium == figures.ap_large == 1


def test_areas_are_those_given():
    figures = evaluate([LARGE], [LARGE], [0.9], areas=[500])
    assert figures.ap_small == 1
    assert np.isnan(figures.ap_large)


def test_of_equal_scores_the_first_image_counts_first():
    nothing = Truth([], [])
    right, wrong = Found([MEDIUM], [0.5], [0]), Found([AWAY], [0.5], [0])
    first = evaluate_detections([Truth([MEDIUM], [0]), nothing], [right, wrong], 1)
    last = evaluate_detections([nothing, Truth([MEDIUM], [0])], [wrong, right], 1)
    assert first.ap == 1
    assert last.ap == pytest.approx(0.5)


def test_of_equal_scores_the_first_detection_counts_first():
    assert evaluate([MEDIUM], [MEDIUM, AWAY], [0.5, 0.5]).ap == 1
    assert evaluate([MEDIUM], [AWAY, MEDIUM], [0.5, 0.5]).ap == pytest.approx(0.5)


def test_a_hundred_detections_count():
    scores = np.linspace(0.9, 0.1, 101)
    assert evaluate([MEDIUM], [AWAY] * 99 + [MEDIUM], scores[:100]).ar100 == 1
    assert evaluate([MEDIUM], [AWAY] * 100 + [MEDIUM], scores).ar100 == 0


def test_classes_do_not_mix():
    truth = Truth([MEDIUM, LARGE], [0, 2])
    found = Found([MEDIUM, LARGE, AWAY], [0.9, 0.8, 0.7], [0, 0, 1])
    figures = evaluate_detections([truth], [found], 4)
    np.testing.assert_array_equal(figures.class_ap, [1, np.nan, 0, np.nan])
    np.testing.assert_array_equal(figures.class_ap50, [1, np.nan, 0, np.nan])
    assert figures.ap == 0.5


def test_images_do_not_mix():
    truths = [Truth([MEDIUM], [0]), Truth([LARGE], [0])]
    found = [Found([LARGE], [0.9], [0]), Found([MEDIUM], [0.9], [0])]
    assert evaluate_detections(truths, found, 1).ap == 0
    assert evaluate_detections(truths, found[::-1], 1).ap == 1


def test_empty_boxes_match_nothing():
    point = [10, 10, 10, 10]
    assert evaluate([point], [point], [0.9]).ap == 0


def test_pairs_are_compared_in_chunks(monkeypatch):
    boxes = np.repeat([MEDIUM, AWAY, LARGE], 5, axis=0)
    whole = evaluate(boxes, boxes, np.linspace(0, 1, 15))
    monkeypatch.setattr(matching, "CHUNK", 7)
    parts = evaluate(boxes, boxes, np.linspace(0, 1, 15))
    for name, value in dataclasses.asdict(whole).items():
        np.testing.assert_array_equal(value, getattr(parts, name))


def test_takes_jax_arrays_and_keeps_arguments():
    boxes = np.array([LARGE, SMALL], np.float32)
    found = Found(jnp.asarray(boxes), jnp.array([0.5, 0.9]), jnp.array([1, 0]))
    assert evaluate_detections([Truth(boxes, [1, 0])], [found], 2).ap == 1
    np.testing.assert_array_equal(boxes, [LARGE, SMALL])


def test_table():
    lines = str(evaluate([LARGE], [LARGE], [0.9])).splitlines()
    assert len(lines) == 13
    assert lines[1].split() == [
        "average",
        "precision",
        "0.50",
        "to",
        "0.95",
        "all",
        "100",
        "1.0000",
    ]
    assert "small" in lines[4]
    assert lines[4].endswith("no objects")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Truth([[0, 0, 1]], [0]), r"boxes must be \[n, 4\].*\(1, 3\)"),
        (lambda: Truth([SMALL, [5, 0, 4, 1]], [0, 0]), r"x1 <= x2.*boxes\[1\]"),
        (lambda: Truth([[0, 0, np.nan, 1]], [0]), r"finite.*boxes\[0\]"),
        (lambda: Truth([SMALL], [0, 1]), r"labels must be \[1\].*\(2,\)"),
        (lambda: Truth([SMALL], [0.5]), "labels must be integers, got float64"),
        (lambda: Truth([SMALL], [0], crowd=[]), r"crowd must be \[1\]"),
        (lambda: Truth([SMALL], [0], areas=[np.inf]), r"areas must be finite, got inf"),
        (lambda: Found([SMALL], [np.nan], [0]), r"scores must be finite, got nan as scores\[0\]"),
        (lambda: Found([SMALL], [], [0]), r"scores must be \[1\]"),
        (lambda: Found([SMALL], [0.5], [[0]]), r"labels must be \[1\]"),
    ],
)
def test_bad_images(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_bad_arguments():
    truth, found = Truth([SMALL], [3]), Found([SMALL], [0.5], [-1])
    nothing = Truth([], []), Found([], [], [])
    with pytest.raises(ArgumentError, match="for each image, got 0 and 0"):
        evaluate_detections([], [], 1)
    with pytest.raises(ArgumentError, match="got 1 and 2"):
        evaluate_detections([truth], [found, found], 4)
    with pytest.raises(ArgumentError, match=r"from 0 to 2, got 3 in truths\[0\]"):
        evaluate_detections([truth], [nothing[1]], 3)
    with pytest.raises(ArgumentError, match=r"from 0 to 2, got -1 in found\[1\]"):
        evaluate_detections([nothing[0]] * 2, [nothing[1], found], 3)
    with pytest.raises(ArgumentError, match="num_classes must be an integer of at least 1"):
        evaluate_detections([nothing[0]], [nothing[1]], 0)
