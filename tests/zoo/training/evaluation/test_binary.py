"""Metrics of two classes and their intervals, beside scikit-learn's."""

import json
import warnings

import numpy as np
import pytest

from zoo.training.evaluation.binary import METRICS, evaluate_binary

sk = pytest.importorskip("sklearn.metrics")


def reference(p, y, threshold=0.5):
    """The metrics that scikit-learn computes, NaN where they are undefined."""
    called = p > threshold
    nan = {"zero_division": np.nan}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is undefined
        precision, sensitivity, f1, _ = sk.precision_recall_fscore_support(
            y, called, average="binary", **nan
        )
        return {
            "auroc": sk.roc_auc_score(y, p) if len(set(y)) == 2 else np.nan,
            "kappa": sk.cohen_kappa_score(y, called, labels=[0, 1]),
            "sensitivity": sensitivity,
            "specificity": sk.recall_score(y, called, pos_label=0, **nan),
            "precision": precision,
            "f1": f1,
            "accuracy": sk.accuracy_score(y, called),
        }


def make(count, seed, levels=10):
    """Probabilities with ties that say something of the labels."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, count)
    p = np.clip(random.normal(0.35 + 0.3 * y, 0.25), 0, 1)
    return np.round(p * levels) / levels, y


@pytest.mark.parametrize("levels", [2, 10, 1000])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9])
def test_metrics_are_those_of_scikit_learn(levels, threshold):
    for seed, count in enumerate((2, 7, 50, 400)):
        p, y = make(count, seed, levels)
        got = evaluate_binary(p, y, threshold=threshold, resamples=1)
        np.testing.assert_array_equal(
            got.confusion, sk.confusion_matrix(y, p > threshold, labels=[0, 1])
        )
        assert got.count == count
        want = reference(p, y, threshold)
        assert tuple(got.metrics) == METRICS
        for name in METRICS:
            assert got.metrics[name].value == pytest.approx(want[name], abs=1e-12, nan_ok=True)


def test_intervals_are_the_quantiles_over_resamples(monkeypatch):
    # Few examples, so that some resamples have one class only.
    p, y = make(6, 0)
    y[:] = [0, 0, 0, 0, 1, 0]
    count, resamples, seed = len(p), 150, 4
    monkeypatch.setattr(
        "zoo.training.evaluation.binary._BLOCK", 40 * count
    )  # several blocks, the last smaller
    got = evaluate_binary(p, y, resamples=resamples, seed=seed)
    order = np.argsort(p)
    weights = np.random.default_rng(seed).multinomial(count, [1 / count] * count, resamples)
    chosen = [np.repeat(order, row) for row in weights]
    scores = [reference(p[c], y[c]) for c in chosen]
    for name in METRICS:
        values = np.array([score[name] for score in scores])
        estimate = got.metrics[name]
        assert estimate.undefined == np.isnan(values).sum()
        np.testing.assert_allclose(
            estimate[1:3], np.nanquantile(values, [0.025, 0.975]), rtol=0, atol=1e-12
        )
    assert got.metrics["auroc"].undefined > 10
    confusions = [sk.confusion_matrix(y[c], p[c] > 0.5, labels=[0, 1]) for c in chosen]
    low, high = np.quantile(confusions, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(got.confusion_low, low)
    np.testing.assert_allclose(got.confusion_high, high)


def test_intervals_of_proportions_are_nearly_the_normal_ones():
    p, y = make(1000, 1)
    got = evaluate_binary(p, y, resamples=4000)
    for name, number in {
        "accuracy": 1000,
        "sensitivity": y.sum(),
        "specificity": sum(1 - y),
    }.items():
        value, low, high, _ = got.metrics[name]
        half = 1.96 * np.sqrt(value * (1 - value) / number)
        # With 4000 resamples a quantile's standard error is 0.02 of the interval's width.
        assert (value - low, high - value) == pytest.approx((half, half), rel=0.1)


def test_intervals_hold_the_true_value_about_as_often_as_they_say():
    held = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        y = np.repeat([0, 1], 60)
        p = np.where(random.random(120) < 0.8, y, 1 - y)  # a kappa of 0.6, an accuracy of 0.8
        metrics = evaluate_binary(p, y, resamples=200, seed=seed).metrics
        for name, truth in {"kappa": 0.6, "accuracy": 0.8, "auroc": 0.8}.items():
            held += metrics[name].low <= truth <= metrics[name].high
    # Of 600 intervals, with a standard error of 0.015 as three of a sample go together.
    assert 0.90 < held / 600 < 0.98


def test_one_class_leaves_metrics_undefined():
    got = evaluate_binary([0.1, 0.2, 0.9], [0, 0, 0], resamples=20)
    for name in ("auroc", "sensitivity"):
        assert np.isnan(got.metrics[name][:3]).all()
        assert got.metrics[name].undefined == 20
        assert str(got.metrics[name]) == "–"
    assert got.metrics["specificity"].value == pytest.approx(2 / 3)
    assert got.metrics["kappa"].value == 0
    alike = evaluate_binary([0.1, 0.2], [0, 0], resamples=20)
    assert np.isnan(alike.metrics["kappa"].value)
    stored = json.loads(json.dumps(got.as_dict(), allow_nan=False))
    assert stored["auroc"] == {"value": None, "low": None, "high": None, "undefined": 20}
    assert stored["confusion"] == [[2, 1], [0, 0]]


def test_the_seed_decides():
    p, y = make(50, 0)
    first, same, other = (evaluate_binary(p, y, seed=seed).metrics["auroc"] for seed in (1, 1, 2))
    assert first == same
    assert first.value == other.value
    assert first.low != other.low


@pytest.mark.parametrize(
    ("p", "y", "options", "message"),
    [
        ([], [], {}, r"at least one example, got shapes \(0,\) and \(0,\)"),
        ([0.5], [0, 1], {}, r"got shapes \(1,\) and \(2,\)"),
        ([[0.5, 0.5]], [[0, 1]], {}, r"got shapes \(1, 2\)"),
        ([0.5, 1.5], [0, 1], {}, r"probabilities must be from 0 to 1, got 1\.5"),
        ([0.5, np.nan], [0, 1], {}, r"probabilities must be from 0 to 1, got nan"),
        ([0.5, 0.5], [0, 2], {}, r"labels must be 0 or 1, got 2"),
        ([0.5], [0], {"threshold": -0.1}, r"threshold must be from 0 to 1, got -0\.1"),
        ([0.5], [0], {"resamples": 0}, r"resamples must be at least 1, got 0"),
    ],
)
def test_unusable_arguments_are_refused(p, y, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_binary(np.array(p), np.array(y), **options)
