"""Metrics of a classifier, beside scikit-learn's and beside sums by hand."""

import json

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from zoo.data.dataset import DatasetError
from zoo.training.evaluation.metrics import Evaluation

# Installed for tests; the library itself does not need it.
metrics = pytest.importorskip("sklearn.metrics")


def evaluation(probabilities, labels, **fields):
    probabilities = np.asarray(probabilities)
    classes = tuple(f"class {number}" for number in range(probabilities.shape[1]))
    return Evaluation(classes, np.asarray(labels), probabilities, **fields)


def drawn(count, classes, seed=0, dtype=np.float32):
    """Random probabilities that lean to the true classes."""
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=count)
    logits = random.normal(0, 2, (count, classes))
    logits[np.arange(count), labels] += 2
    return evaluation(softmax(logits, axis=1).astype(dtype), labels)


@pytest.mark.parametrize("classes", [2, 6, 40])
def test_equals_scikit_learn(classes):
    ours = drawn(500, classes)
    labels, predicted = ours.labels, ours.probabilities.argmax(1)
    numbers = np.arange(classes)
    assert ours.top1 == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert ours.balanced_accuracy == pytest.approx(
        metrics.balanced_accuracy_score(labels, predicted)
    )
    np.testing.assert_array_equal(
        ours.confusion, metrics.confusion_matrix(labels, predicted, labels=numbers)
    )
    np.testing.assert_allclose(
        ours.class_accuracy, metrics.recall_score(labels, predicted, labels=numbers, average=None)
    )
    # In float64, where scikit-learn asks for sums of 1 to 1e-8 or so.
    exact = ours.probabilities.astype(float)
    exact /= exact.sum(1, keepdims=True)
    assert ours.loss == pytest.approx(metrics.log_loss(labels, exact, labels=numbers), rel=1e-6)
    if classes > 5:
        assert ours.top5 == pytest.approx(
            metrics.top_k_accuracy_score(labels, ours.probabilities, k=5, labels=numbers)
        )


def test_the_loss_is_that_of_the_logits_however_unlikely_the_truth():
    logits = np.random.default_rng(0).normal(0, 12, (400, 8))
    labels = np.zeros(400, int)
    want = -log_softmax(logits, axis=1)[:, 0]
    assert 40 < want.max() < 87  # float32's range ends at e^-87
    ours = evaluation(softmax(logits, axis=1).astype(np.float32), labels)
    assert ours.loss == pytest.approx(want.mean(), rel=1e-6)  # of float32's rounding


def test_the_loss_is_finite_where_a_probability_is_zero():
    assert evaluation(np.float32([[1, 0], [1, 0]]), [0, 1]).loss == pytest.approx(87.34 / 2, 1e-3)


def test_top5_says_nothing_of_five_classes():
    assert drawn(20, 5).top5 is None
    assert drawn(20, 6).top5 <= 1


def test_of_equal_probabilities_the_first_classes_are_the_likelier_ones():
    ours = evaluation(np.full((7, 7), 1 / 7), np.arange(7))
    assert ours.top1 == pytest.approx(1 / 7)
    assert ours.top5 == pytest.approx(5 / 7)


def test_calibration_error_by_hand():
    # Bins of 1/15: 0.61 and 0.65 share one (9/15 to 10/15); 0.95 and 0.99 share the last.
    confidence = np.array([0.61, 0.65, 0.95, 0.99])
    ours = evaluation(np.stack([confidence, 1 - confidence], 1), [0, 1, 0, 0])
    assert ours.calibration_error == pytest.approx((2 * abs(0.63 - 0.5) + 2 * abs(0.97 - 1)) / 4)
    bins = ours.calibration
    assert bins.images.tolist() == [0] * 9 + [2] + [0] * 4 + [2]
    assert bins.accuracy[[9, 14]].tolist() == [0.5, 1]
    assert np.isnan(bins.accuracy[0])
    assert np.isnan(bins.confidence[0])


def test_calibration_error_equals_a_loop():
    ours = drawn(300, 12)
    confidence, total = ours.probabilities.max(1), 0.0
    right = ours.probabilities.argmax(1) == ours.labels
    for low in range(15):
        inside = [i for i in range(300) if low / 15 < confidence[i] <= (low + 1) / 15]
        if inside:
            mean = sum(float(confidence[i]) for i in inside) / len(inside)
            total += len(inside) / 300 * abs(mean - sum(map(int, right[inside])) / len(inside))
    assert ours.calibration_error == pytest.approx(total)


def test_a_confidence_on_a_border_belongs_to_the_lower_bin():
    ours = evaluation([[0.2] * 5, [1, 0, 0, 0, 0]], [0, 0])  # 0.2 is 3/15
    assert np.flatnonzero(ours.calibration.images).tolist() == [2, 14]


def test_worst_are_the_wrong_ones_first():
    probabilities = [
        [0.5, 0.4, 0.1],  # wrong: 0.4
        [0.3, 0.3, 0.4],  # right: 0.4
        [0.9, 0.05, 0.05],  # wrong: 0.05
        [0.35, 0.33, 0.32],  # right: 0.35
    ]
    ours = evaluation(probabilities, [1, 2, 1, 0])
    assert ours.worst(9).tolist() == [2, 0, 3, 1]
    assert ours.worst(2).tolist() == [2, 0]
    assert ours.worst(0).tolist() == []


def test_most_confused_are_the_largest_numbers_off_the_diagonal():
    labels = [0, 0, 0, 0, 1, 1, 2]
    predicted = [0, 0, 1, 1, 2, 1, 1]
    ours = evaluation(np.eye(3)[predicted], labels)
    assert ours.most_confused(5) == [(0, 1, 2), (1, 2, 1), (2, 1, 1)]
    assert ours.most_confused(1) == [(0, 1, 2)]


def test_a_class_without_images_counts_nowhere():
    ours = evaluation(np.eye(3)[[0, 2, 1]], [0, 0, 1])
    np.testing.assert_array_equal(ours.class_accuracy, [0.5, 1, np.nan])
    assert ours.balanced_accuracy == 0.75
    assert ours.class_counts.tolist() == [2, 1, 0]


def test_the_summary_is_json():
    ours = Evaluation(
        ("crane", "crane", "owl"), np.int32([0, 0, 1]), np.eye(3, dtype=np.float32)[[0, 2, 1]],
        skipped=("x.jpg is damaged",), seconds=0.5,
    )  # fmt: skip
    summary = json.loads(json.dumps(ours.as_dict(), allow_nan=False))
    assert summary["classes"] == [
        {"name": "crane", "images": 2, "accuracy": 0.5},
        {"name": "crane", "images": 1, "accuracy": 1.0},
        {"name": "owl", "images": 0, "accuracy": None},
    ]
    assert (summary["images"], summary["skipped"], summary["images_per_second"]) == (3, 1, 6)
    assert (summary["top1"], summary["top5"]) == (pytest.approx(2 / 3), None)
    assert drawn(3, 2).images_per_second is None


def test_raises_for_what_cannot_be_evaluated():
    with pytest.raises(DatasetError, match=r"at least one image .* 1 skipped: a\.jpg is bad"):
        evaluation(np.zeros((0, 3)), np.zeros(0, int), skipped=("a.jpg is bad",))
    with pytest.raises(ValueError, match=r"must be \[images, classes\] = \(2, 3\), got \(1, 3\)"):
        evaluation(np.ones((1, 3)) / 3, [0, 1])
    with pytest.raises(ValueError, match=r"numbers from 0 to 2, got int64 from 0 to 3"):
        evaluation(np.eye(3)[:2], [0, 3])
    with pytest.raises(ValueError, match="2 images, but 1 names"):
        evaluation(np.eye(3)[:2], [0, 1], names=("a",))
    with pytest.raises(FloatingPointError, match=r"not finite .* for 1 of 2 images"):
        evaluation([[np.nan, 1], [0, 1]], [0, 1])
