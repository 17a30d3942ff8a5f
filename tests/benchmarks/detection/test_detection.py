"""The benchmark of detectors: its options, its weights, and that both sides compute the same."""

import numpy as np
import pytest

from benchmarks.detection import canvases, ours, torchvision, weights
from benchmarks.detection.__main__ import check_agreement, make_row, parse_arguments
from benchmarks.detection.cases import (
    DETECT,
    MODELS,
    NATIVE,
    NETWORK,
    OURS,
    QUICK_SIDES,
    SELECT,
    SLOW,
    STEP,
    TORCH,
    Case,
    list_cases,
    make_photos,
    make_training_batch,
)
from benchmarks.harness.interleaved import Measurement
from zoo.models.base import load_detectors

SSDLITE, FASTER = "SSDLite320_MobileNetV3_Large", "FasterRCNN_MobileNetV3_Large_320_FPN"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "SSD300_VGG16,YOLO"], "got 'YOLO'"),
        (["--works", "training"], "got 'training'"),
        (["--batches", "0"], "at least 1, got '0'"),
        (["--rounds", "1"], "at least 2, got 1"),
    ],
)
def test_bad_options(arguments, message, capsys):
    with pytest.raises(SystemExit):
        parse_arguments(arguments)
    assert message in capsys.readouterr().err


def test_every_detector_is_timed_with_names_of_its_own():
    assert set(MODELS) == set(load_detectors())
    cases = parse_arguments([]).cases
    assert len({case.name for case in cases}) == len(cases)
    assert [Case.parse(case.name) for case in cases] == cases
    assert [
        (case.work, case.batch) for case in list_cases([SSDLITE], [1, 8], [DETECT, STEP], True)
    ] == [
        (DETECT, 1),
        (DETECT, 8),
        (STEP, 4),
    ]


def test_sides():
    assert Case("SSD300_VGG16", STEP, 4).side == 300
    assert Case(SSDLITE, STEP, 4).side == 320
    assert Case(FASTER, DETECT, 1, quick=True).sides == QUICK_SIDES
    # Training images are square, so that torchvision does not change their size.
    for quick in (False, True):
        case = Case(FASTER, STEP, 4, quick)
        assert set(case.sides.values()) == {case.side}
    assert Case(SLOW[0], DETECT, 8).candidates == (NATIVE, TORCH)


def test_photos_are_of_one_shape_and_differ():
    photos = make_photos(5)
    assert {(photo.shape, photo.dtype.name) for photo in photos} == {((480, 640, 3), "uint8")}
    assert len({photo.tobytes() for photo in photos}) == len(photos)


def test_training_boxes_are_inside():
    images, boxes, classes = make_training_batch(Case(SSDLITE, STEP, 4))
    assert images.shape == (4, 320, 320, 3)
    assert (boxes[..., :2] >= 0).all()
    assert (boxes[..., 2:] <= 320).all()
    assert (boxes[..., 2:] - boxes[..., :2] >= 0.1 * 320 - 1e-3).all()
    assert (classes >= 1).all()


@pytest.mark.parametrize("count", [0, 7, 500])
def test_as_many_scores_are_above_the_threshold(count):
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (300, 11))
    centerness = random.normal(0, 1, (300, 1))
    margin = 1 + 1e-9  # the next likeliest is at the threshold, but for rounding
    shifted = logits + np.eye(11)[0] * weights.find_background_shift(logits, 0.05, count)
    scores = np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)
    assert (scores[:, 1:] > 0.05 * margin).sum() == count
    for factors in (centerness, np.full((1, 1), np.inf)):
        shift = weights.find_shift(logits, factors, 0.04, count)
        scores = 1 / (1 + np.exp(-(logits + shift))) / (1 + np.exp(-factors))
        assert (scores > 0.04 * margin).sum() == count


def test_a_ratio_is_that_of_native_layers_to_torchvision():
    rounds = {OURS: [3.0, 3.0], NATIVE: [1.0, 2.0], TORCH: [2.0, 4.0]}
    costs = {
        name: {"seconds": 1.0, "first": 5.0, "result": {"found": 9, "scores": [0.5]}}
        for name in rounds
    }
    row = make_row(Case(SSDLITE, DETECT, 1), Measurement(rounds, {}, {}, costs))
    assert row["ratio"]["median"] == 0.5
    assert row["compile"] == {OURS: 2.0, NATIVE: 3.5}
    assert row["found"] == 9
    alone = make_row(Case(SSDLITE, SELECT, 1), Measurement(rounds, {}, {}, costs))
    assert list(alone["seconds"]) == [OURS]
    assert "ratio" not in alone


@pytest.mark.parametrize(
    ("found", "is_wrong"),
    [
        ({"found": 100, "scores": [0.9, 0.5]}, False),
        ({"found": 100, "scores": [0.9, 0.52]}, True),
        ({"found": 100, "scores": [float("nan"), 0.5]}, True),
        ({"found": 90, "scores": [0.9, 0.5]}, True),
        ({"found": 100, "scores": [0.9]}, True),
    ],
)
def test_candidates_must_agree(found, is_wrong):
    results = [found, {"found": 100, "scores": [0.9, 0.5]}]
    if not is_wrong:
        check_agreement(Case(SSDLITE, DETECT, 1), results)
        return
    with pytest.raises(SystemExit, match="SSDLite320"):
        check_agreement(Case(SSDLITE, DETECT, 1), results)


def test_shapes_that_photos_are_padded_to():
    assert canvases.measure([SSDLITE, "SSD300_VGG16"]) == []
    rows = canvases.measure([SSDLITE, "RetinaNet_ResNet50_FPN", "FCOS_ResNet50_FPN"])
    assert [(row["sides"], row["photos"]) for row in rows] == [
        ([800, 1333], "usual"),
        ([800, 1333], "random"),
    ]
    for row in rows:
        assert 0 < row["canvases"] <= row["without"] <= row["sizes"]
        assert 0 <= row["mean"] <= row["most"]


@pytest.fixture(scope="module")
def small():
    """(weights, case) of a small detector that looks at small photos."""
    case = Case(FASTER, DETECT, 1, quick=True)
    return weights.make_weights(case), case


@pytest.mark.peer
@pytest.mark.slow
@pytest.mark.parametrize("work", [DETECT, STEP])
def test_both_sides_compute_the_same(small, work):
    arrays, case = small
    case = case._replace(work=work, batch=2)
    results = []
    for side in (ours, torchvision):
        run, summarize = side.make_work(case, arrays)
        results.append(summarize(run()))
    check_agreement(case, results)
    if work == DETECT:
        assert results[1]["found"] > 20


@pytest.mark.peer
@pytest.mark.slow
def test_the_parts_are_those_of_the_whole(small):
    arrays, case = small
    found, logits, selected = (
        ours.make_work(case._replace(work=work), arrays)[0]() for work in (DETECT, NETWORK, SELECT)
    )
    assert int(selected.counts[0]) == len(found[0]) > 20
    theirs = torchvision.make_work(case._replace(work=NETWORK), arrays)[0]()[0].numpy()
    count = int(logits.proposal_counts[0])
    assert count == len(theirs) > 20
    # Proposals of scores that are equal but for rounding may be in another order.
    np.testing.assert_allclose(
        np.sort(logits.logits[0, :count].max(1)), np.sort(theirs.max(1)), rtol=1e-3, atol=1e-3
    )
