import itertools

import numpy as np
import pytest

from zoo.detection.evaluation.metrics import Found, Truth, evaluate_detections

pytestmark = pytest.mark.peer

NAMES = (
    "ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large",
    "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large",
)  # fmt: skip
# Both compute in float64, and differ in the order of sums alone.
TOLERANCE = 1e-9


def random_set(seed):
    """Images with objects and detections of every awkward kind: (truths, found, num_classes).

    Coordinates and scores are coarse, so that overlaps, areas and scores are often equal; objects
    of exactly 32 x 32 and 96 x 96 pixels lie on the limits of the sizes.
    """
    rng = np.random.default_rng(seed)
    num_classes = int(rng.integers(1, 9))
    images = int(rng.integers(1, 40))
    # Classes from here on have no objects, but are detected.
    with_objects = max(1, num_classes - seed % 3)
    score_levels = int(rng.choice([2, 10, 1000]))
    truths, found = [], []
    for _ in range(images):
        count = int(rng.choice([0, 1, 3, 12]))
        side = rng.choice([8, 31, 32, 33, 64, 95, 96, 97, 150], (count, 2))
        square = rng.random(count) < 0.5
        side[square, 1] = side[square, 0]
        corner = rng.integers(0, 120, (count, 2))
        boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
        labels = rng.integers(0, with_objects, count)
        repeated = rng.random(count) < 0.2
        boxes, labels = (np.concatenate([a, a[repeated]]) for a in (boxes, labels))
        crowd = rng.random(len(boxes)) < 0.15
        areas = None
        if seed % 2:
            areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) * rng.choice([0.5, 1], len(boxes))
        truths.append(Truth(boxes, labels, crowd, areas))
        found.append(random_detections(rng, boxes, labels, num_classes, score_levels))
    return truths, found, num_classes


def random_detections(rng, boxes, labels, num_classes, score_levels):
    copies = int(rng.choice([0, 1, 2, 30], p=[0.2, 0.4, 0.3, 0.1]))
    near = np.repeat(boxes, copies, axis=0)
    near = near + rng.integers(-4, 5, near.shape)
    classes = np.repeat(labels, copies)
    classes = np.where(rng.random(len(classes)) < 0.1, 0, classes)
    others = int(rng.choice([0, 2, 130], p=[0.3, 0.6, 0.1]))
    corner = rng.integers(0, 150, (others, 2))
    stray = np.concatenate([corner, corner + rng.integers(0, 100, (others, 2))], axis=1)
    boxes = np.concatenate([near, stray]).astype(np.float32)
    classes = np.concatenate([classes, rng.integers(0, num_classes, others)])
    order = rng.permutation(len(boxes))
    scores = rng.integers(1, score_levels + 1, len(boxes)) / score_levels
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
    return Found(boxes[order], scores.astype(np.float32), classes[order])


def peer_evaluation(truths, found, num_classes):
    """pycocotools' evaluation object, after it has evaluated."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def to_coco(index, one, **more):
        x1, y1, x2, y2 = np.transpose(one.boxes)
        columns = {"bbox": np.stack([x1, y1, x2 - x1, y2 - y1], axis=1), "category_id": one.labels}
        columns |= more
        return [
            {"image_id": index, **{name: values[i].tolist() for name, values in columns.items()}}
            for i in range(len(one.boxes))
        ]

    def join(parts):
        every = itertools.chain.from_iterable(parts)
        return [{"id": i, **one} for i, one in enumerate(every, start=1)]

    truth, guesses = COCO(), COCO()
    common = {
        "images": [{"id": index} for index in range(len(truths))],
        "categories": [{"id": label} for label in range(num_classes)],
    }
    truth.dataset = common | {
        "annotations": join(
            to_coco(i, one, area=one.areas, iscrowd=one.crowd.astype(int))
            for i, one in enumerate(truths)
        )
    }
    truth.createIndex()
    results = join(to_coco(i, one, score=one.scores) for i, one in enumerate(found))
    if results:
        guesses = truth.loadRes(results)
    else:  # loadRes needs one
        guesses.dataset = common | {"annotations": []}
        guesses.createIndex()
    evaluation = COCOeval(truth, guesses, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def assert_equal_to_peer(truths, found, num_classes):
    ours = evaluate_detections(truths, found, num_classes)
    peer = peer_evaluation(truths, found, num_classes)

    def with_nan(values):
        return np.where(np.asarray(values) == -1, np.nan, values)

    figures = [getattr(ours, name) for name in NAMES]
    np.testing.assert_allclose(figures, with_nan(peer.stats), rtol=0, atol=TOLERANCE)
    precision = peer.eval["precision"][..., 0, 2]  # [IoUs, recalls, classes]
    by_class = with_nan(precision).mean(axis=(0, 1))
    np.testing.assert_allclose(ours.class_ap, by_class, rtol=0, atol=TOLERANCE)
    by_class50 = with_nan(precision[0]).mean(axis=0)
    np.testing.assert_allclose(ours.class_ap50, by_class50, rtol=0, atol=TOLERANCE)
    return ours


@pytest.mark.parametrize("seed", range(60))
def test_equal_to_pycocotools(seed):
    assert_equal_to_peer(*random_set(seed))


def test_sets_are_awkward():
    sets = [random_set(seed) for seed in range(60)]
    truths = [truth for one, _, _ in sets for truth in one]
    found = [image for _, one, _ in sets for image in one]
    assert any(truth.crowd.any() for truth in truths)
    assert any(np.isin(truth.areas, [32**2, 96**2]).any() for truth in truths)
    assert any(np.bincount(image.labels, minlength=1).max() > 100 for image in found)
    assert any(len(truth.boxes) == 0 for truth in truths)
    assert any(len(image.boxes) == 0 for image in found)
    figures = [evaluate_detections(*one) for one in sets]
    assert any(np.isnan(one.class_ap).any() for one in figures)
    assert any(0.2 < one.ap < 0.8 for one in figures)


@pytest.mark.parametrize("last", [0, 1])
def test_of_equal_overlaps_the_last_object_is_matched(last):
    left, right = [0, 0, 40, 40], [20, 0, 60, 40]
    boxes = [right, left] if last == 0 else [left, right]
    # The first detection overlaps both equally; the second one only fits the right one.
    found = [Found([[10, 0, 50, 40], right], [0.9, 0.8], [0, 0])]
    ours = assert_equal_to_peer([Truth(boxes, [0, 0])], found, 1)
    assert ours.ar100 == pytest.approx(0.65 if last == 0 else 0.5)


def test_nothing_found_is_zero():
    truths = [Truth([[0, 0, 40, 40]], [0])]
    ours = assert_equal_to_peer(truths, [Found([], [], [])], 1)
    assert ours.ap == 0


def test_no_objects_is_nan():
    found = [Found([[0, 0, 40, 40]], [0.5], [0])]
    ours = assert_equal_to_peer([Truth([], [])], found, 1)
    assert np.isnan(ours.ap)


def test_nothing_at_all_is_nan():
    ours = assert_equal_to_peer([Truth([], [])], [Found([], [], [])], 2)
    assert np.isnan([getattr(ours, name) for name in NAMES]).all()
