import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import zoo
from tests.zoo.onnx.small import make_model, node, serialize, tensor
from zoo.detection.adapters import adapt_outputs, to_found
from zoo.detection.detections import Detection
from zoo.detection.draw import draw_detections
from zoo.detection.evaluation.metrics import Truth, evaluate_detections
from zoo.runtime.checks import ArgumentError

NAMES = ("red", "green", "blue")
# On the grid of 8 pixels at which the detector looks.
RED, BLUE = (8, 16, 24, 32), (40, 32, 56, 48)


def squares_detector():
    """Finds red, green and blue squares of 16 pixels in images [1, 3, 64, 64] from 0 to 1.

    Its outputs have as many rows as there are squares: boxes, scores, labels.
    """
    places = 8 * np.indices((7, 7))[::-1].reshape(2, -1).T
    boxes = np.float32(np.concatenate([places, places + 16], axis=1))
    nodes = [
        node("AveragePool", "image", "means", kernel_shape=[16, 16], strides=[8, 8]),
        node("Reshape", "means per_class", "class_scores"),
        node("Unsqueeze", "all_boxes zero", "batch_boxes"),
        node("NonMaxSuppression", "batch_boxes class_scores most overlap least", "chosen"),
        node("Gather", "chosen one", "labels", axis=1),
        node("Gather", "chosen two", "indices", axis=1),
        node("Gather", "all_boxes indices", "boxes", axis=0),
        node("GatherND", "class_scores chosen", "scores"),
    ]
    constants = {
        "per_class": np.array([1, 3, 49]),
        "all_boxes": boxes,
        "zero": np.array([0]),
        "one": np.array(1),
        "two": np.array(2),
        "most": np.array([9]),
        "overlap": np.float32([0.1]),
        "least": np.float32([0.6]),  # half of a square is not enough
    }
    inputs = [tensor("image", [1, 3, 64, 64])]
    outputs = [tensor("boxes", ["m", 4]), tensor("scores", ["m"]), tensor("labels", ["m"], 7)]
    return zoo.from_onnx(serialize(make_model(nodes, inputs, outputs, constants)))


def paint(*squares):
    """A black photo of 64x64 with squares, each a place and a channel."""
    photo = np.zeros((64, 64, 3), np.uint8)
    for (x1, y1, x2, y2), channel in squares:
        photo[y1:y2, x1:x2, channel] = 255
    return photo


def run(model, photo):
    image = np.float32(photo).transpose(2, 0, 1)[None] / 255
    return model.apply(model.variables, image)


def test_a_detector_of_onnx_is_drawn_and_evaluated():
    model = squares_detector()
    photos = [paint((RED, 0), (BLUE, 2)), paint(), paint((BLUE, 0))]
    truths = [Truth([RED, BLUE], [0, 2]), Truth([], []), Truth([BLUE], [0])]
    found = [adapt_outputs(*run(model, photo), NAMES) for photo in photos]
    assert sorted(found[0]) == [Detection("blue", 1, BLUE), Detection("red", 1, RED)]
    assert found[1:] == [[], [Detection("red", 1, BLUE)]]
    figures = evaluate_detections(truths, [to_found(each, NAMES) for each in found], len(NAMES))
    assert (figures.ap, figures.ar100) == (1, 1)
    picture = np.asarray(draw_detections(photos[2], found[2], colors={"red": "white"}))
    assert (picture[47, 40:56] == 255).all()
    # What is found in the last photo is wrong in the first. Of red things, half are found, each
    # after a wrong one: a precision of 0.5 at 51 of 101 recalls. No blue one is found.
    wrong = [found[2], *found[1:]]
    figures = evaluate_detections(truths, [to_found(each, NAMES) for each in wrong], len(NAMES))
    assert figures.ap == pytest.approx(51 / 101 / 2 / 2)


def test_boxes_in_a_photo_that_was_stretched():
    photo = Image.fromarray(paint((RED, 0))).resize((128, 32), Image.Resampling.NEAREST)
    small = np.asarray(photo.resize((64, 64), Image.Resampling.NEAREST))
    outputs = run(squares_detector(), small)
    (one,) = adapt_outputs(*outputs, NAMES, image_size=photo.size, box_size=(64, 64))
    assert one.box == (16, 8, 48, 16)


BOXES, SCORES, LABELS = [[0.1, 0.2, 0.5, 0.4], [0, 0, 1, 1]], [0.6, 0.9], [2, 1]
NORMALISED = {"image_size": (100, 50), "box_size": (1, 1)}


@pytest.mark.parametrize("kind", [list, np.array, jnp.array])
def test_normalised_boxes_sorted_by_score(kind):
    outputs = map(kind, (BOXES, SCORES, LABELS))
    first, second = adapt_outputs(*outputs, NAMES, **NORMALISED)
    assert first == ("green", pytest.approx(0.9), (0, 0, 100, 50))
    assert second[0] == "blue"
    assert second.box == pytest.approx((10, 10, 50, 20))


def test_rows_first():
    (one, _) = adapt_outputs(BOXES[::-1], SCORES, LABELS, NAMES, order="yxyx", **NORMALISED)
    assert one.box == pytest.approx((20, 5, 40, 25))


def test_a_batch_has_a_list_for_each_image():
    outputs = [[BOXES, BOXES], [SCORES, [0.1, 0.7]], [LABELS, LABELS]]
    found = adapt_outputs(*outputs, NAMES)
    assert [[one.label for one in image] for image in found] == [["green", "blue"], ["green"]]
    assert adapt_outputs(np.zeros((1, 0, 4)), np.zeros((1, 0)), np.zeros((1, 0)), NAMES) == [[]]
    assert adapt_outputs(np.zeros((0, 4)), np.zeros(0), np.zeros(0), NAMES) == []


def test_names_by_number_and_labels_in_floating_point():
    found = adapt_outputs(BOXES, SCORES, [17.0, 90.0], {17: "cat", 90: "toothbrush"})
    assert [one.label for one in found] == ["toothbrush", "cat"]


def test_rows_that_fill_up_may_hold_anything():
    boxes = [[np.nan] * 4, BOXES[0], [3, 3, 1, 1]]
    found = adapt_outputs(boxes, [0, 0.6, -1], [-1, 0, 99], NAMES, threshold=0)
    assert [one.label for one in found] == ["red"]


def test_threshold_is_included():
    for threshold, count in ((0.25, 1), (0.26, 0)):
        found = adapt_outputs([BOXES[0]], [0.25], [0], NAMES, threshold=threshold)
        assert len(found) == count


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": [[0, 1, 2]]}, r"boxes must be \[n, 4\] or \[N, n, 4\], got \[1, 3\]"),
        ({"boxes": [0, 1, 2, 3]}, r"got \[4\]"),
        ({"scores": [0.5]}, r"scores must be \[2\], as boxes are \[2, 4\], got \[1\]"),
        ({"labels": [[1, 2]]}, r"labels must be \[2\]"),
        ({"labels": [1, 3]}, "got none for number 3"),
        ({"labels": [1, -1]}, "got none for number -1"),
        ({"labels": [1, 0.5]}, "got none for number 0.5"),
        ({"boxes": [BOXES[0], [5, 0, 1, 1]]}, "x1 <= x2"),
        ({"order": "xywh"}, "order must be xyxy or yxyx, got 'xywh'"),
        ({"threshold": 1.5}, "threshold must be a number from 0 to 1"),
        ({"image_size": (10, 10)}, "must be given together"),
        ({"image_size": (10, 10), "box_size": (0, 1)}, "a side of box_size must be"),
    ],
)
def test_bad_arguments(changes, message):
    given = {"boxes": BOXES, "scores": SCORES, "labels": LABELS, "names": NAMES, **changes}
    with pytest.raises(ArgumentError, match=message):
        adapt_outputs(**given)


@pytest.mark.parametrize("name", ["boxes", "scores"])
def test_what_is_not_finite(name):
    given = {"boxes": BOXES, "scores": SCORES, "labels": LABELS, "names": NAMES}
    given[name] = np.full_like(given[name], np.nan)
    with pytest.raises(FloatingPointError, match=f"{name} are not finite"):
        adapt_outputs(**given)


def test_found_needs_every_label():
    with pytest.raises(ArgumentError, match="names must have every label, got none that is 'dog'"):
        to_found([Detection("dog", 0.5, RED)], NAMES)
