"""Detection data sets: what they check, and how they are divided."""

import numpy as np
import pytest

from zoo.data.dataset import DatasetError
from zoo.detection.data.dataset import DetectionDataset
from zoo.runtime.checks import ArgumentError


def dataset(count=4, **changes):
    """Image i has i boxes, of i % 3 and the classes that follow."""
    fields = {
        "images": [f"{i}.jpg" for i in range(count)],
        "boxes": [[[i, 0, i + 2, n + 1] for n in range(i)] for i in range(count)],
        "labels": [[(i + n) % 3 for n in range(i)] for i in range(count)],
        "classes": ("a", "b", "c"),
        "crowd": [[n == 1 for n in range(i)] for i in range(count)],
    }
    return DetectionDataset(**(fields | changes))


def test_an_image_has_its_boxes_labels_and_areas():
    image, boxes, labels, crowd, areas = dataset()[2]
    assert image == "2.jpg"
    np.testing.assert_array_equal(boxes, [[2, 0, 4, 1], [2, 0, 4, 2]])
    assert (boxes.dtype, labels.dtype, crowd.dtype, areas.dtype) == (
        np.float32,
        np.int32,
        bool,
        np.float64,
    )
    assert (labels.tolist(), crowd.tolist(), areas.tolist()) == ([2, 0], [False, True], [2, 4])


def test_an_image_may_have_no_boxes():
    image = dataset()[0]
    assert [part.shape for part in image[1:]] == [(0, 4), (0,), (0,), (0,)]
    empty = dataset(0)
    assert (len(empty), empty.count_boxes().tolist()) == (0, [0, 0, 0])


def test_boxes_are_counted_by_class():
    assert dataset().count_boxes().tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": ["a"]}, "1 images, but boxes of 4"),
        ({"labels": [[], [1]]}, "labels of 2"),
        ({"labels": [[], [1], [0, 1], [0]]}, "image 3 has 3 boxes, but 1 labels"),
        ({"labels": [[], [3], [0, 1], [0, 1, 2]]}, "from 0 to 2"),
        ({"labels": [[], [0.5], [0, 1], [0, 1, 2]]}, r"labels\[1\]"),
        ({"boxes": [[], [[1, 2, 3]], [], []]}, r"boxes\[1\] must be an array \[n, 4\]"),
        ({"boxes": [[], [[3, 2, 3, 4]], [], []]}, r"boxes\[1\] has \[3.0, 2.0, 3.0, 4.0\]"),
        ({"boxes": [[], [[0, np.nan, 3, 4]], [], []]}, "finite"),
        ({"areas": [[], [[1]], [1, 1], [1, 1, 1]]}, r"areas\[1\]"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(DatasetError, match=message):
        dataset(**changes)


def test_selecting_keeps_each_image_s_own():
    selected = dataset().select([3, 1])
    assert selected.images == ["3.jpg", "1.jpg"]
    for new, old in ((0, 3), (1, 1)):
        for got, want in zip(selected[new], dataset()[old], strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("fraction", "count"), [(0.3, 3), (0.01, 1), (0.99, 9)])
def test_a_split_parts_the_images(fraction, count):
    whole = dataset(10)
    parts = whole.split(fraction, seed=1)
    assert sorted(parts[0].images + parts[1].images) == whole.images
    assert len(parts[1]) == count
    assert parts[1].images == whole.split(fraction, seed=1)[1].images
    others = {tuple(whole.split(fraction, seed=seed)[1].images) for seed in range(9)}
    assert len(others) > 1


def test_a_split_that_cannot_be_is_refused():
    with pytest.raises(ArgumentError, match="fraction"):
        dataset().split(1.0)
    with pytest.raises(DatasetError, match="1 images"):
        dataset(1).split(0.5)


def test_training_may_leave_crowds_out():
    rest = dataset().without_crowd()
    assert [part.tolist() for part in rest.labels] == [[], [1], [2], [0, 2]]
    assert [len(part) for part in rest.boxes] == [len(part) for part in rest.areas] == [0, 1, 1, 2]
    assert not any(part.any() for part in rest.crowd)


def test_classes_are_renumbered_by_name():
    renumbered = dataset().with_classes(["x", "c", "a", "b", "a"])
    assert renumbered.labels[2].tolist() == [1, 2]
    assert renumbered.classes == ("x", "c", "a", "b", "a")
    unused = dataset(2).with_classes(["b"])  # whose only box is of class b
    assert unused.labels[1].tolist() == [0]
    with pytest.raises(DatasetError, match="'c'"):
        dataset().with_classes(["a", "b"])
