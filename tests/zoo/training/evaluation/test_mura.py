"""Studies of MURA: means over images, body parts, and what is published."""

import json
import time

import numpy as np
import pytest

from zoo.data.mura import PARTS
from zoo.training.evaluation.mura import (
    PUBLISHED,
    VALIDATION_IMAGES,
    VALIDATION_STUDIES,
    evaluate_studies,
)

sk = pytest.importorskip("sklearn.metrics")


def make(studies, images, seed=0):
    """Probabilities, labels, studies and parts of images in random order."""
    random = np.random.default_rng(seed)
    index = np.r_[np.arange(studies), random.integers(studies, size=images - studies)]
    random.shuffle(index)
    labels, parts = random.integers(2, size=studies), random.integers(len(PARTS), size=studies)
    p = np.clip(random.normal(0.4 + 0.2 * labels[index], 0.2), 0, 1)
    names = np.array([f"study{number:05d}" for number in range(studies)])
    return p, labels[index], names[index], np.array(PARTS)[parts[index]]


def test_a_studys_probability_is_the_mean_over_its_images():
    got = evaluate_studies(
        [0.25, 1.0, 0.75, 0.5, 0.0],
        [1, 0, 1, 1, 0],
        ["b", "a", "b", "c", "a"],
        ["hand", "wrist", "hand", "wrist", "wrist"],
    )
    assert got.studies.tolist() == ["a", "b", "c"]
    assert got.probabilities.tolist() == [0.5, 0.5, 0.5]
    assert got.labels.tolist() == [0, 1, 1]
    assert got.images.tolist() == [2, 2, 1]
    assert got.parts.tolist() == ["wrist", "hand", "wrist"]
    # None is above the threshold of 0.5.
    assert got.overall.confusion.tolist() == [[1, 0], [2, 0]]
    assert got.by_part["wrist"].confusion.tolist() == [[1, 0], [1, 0]]


def test_metrics_of_studies_are_those_of_scikit_learn():
    p, y, studies, parts = make(300, 700)
    got = evaluate_studies(p, y, studies, parts, resamples=10, threshold=0.45)
    mean = {name: p[studies == name].mean() for name in set(studies)}
    label, part = dict(zip(studies, y, strict=True)), dict(zip(studies, parts, strict=True))
    assert set(got.by_part) == set(PARTS)
    for chosen, evaluation in {"": got.overall, **got.by_part}.items():
        names = [name for name in mean if part[name] == chosen or not chosen]
        truth, scores = [label[n] for n in names], np.array([mean[n] for n in names])
        called = scores > 0.45
        want = {
            "auroc": sk.roc_auc_score(truth, scores),
            "kappa": sk.cohen_kappa_score(truth, called),
            "f1": sk.f1_score(truth, called),
        }
        assert evaluation.count == len(names)
        np.testing.assert_array_equal(evaluation.confusion, sk.confusion_matrix(truth, called))
        for name, value in want.items():
            assert evaluation.metrics[name].value == pytest.approx(value, abs=1e-12)


def test_a_body_parts_metrics_do_not_depend_on_the_others():
    arrays = make(80, 200)
    everything = evaluate_studies(*arrays, resamples=50)
    hands = evaluate_studies(*(a[arrays[3] == "hand"] for a in arrays), resamples=50)
    assert hands.overall.as_dict() == everything.by_part["hand"].as_dict()


def test_a_thousand_resamples_of_the_validation_set_are_quick():
    arrays = make(VALIDATION_STUDIES, VALIDATION_IMAGES)
    start = time.process_time()
    got = evaluate_studies(*arrays)
    assert time.process_time() - start < 2
    table = got.table()
    assert table[0] == ["part", "studies", "auroc", "kappa", "sensitivity", "specificity", "f1"]
    assert [row[0] for row in table[1:-2]] == [*PARTS, "overall"]
    assert table[-2] == ["paper's model", "207", "0.929", "0.705", "0.815", "0.887", "–"]
    assert table[-1] == ["best radiologist", "207", "–", "0.778", "–", "–", "–"]
    assert got.as_dict()["published"] == PUBLISHED


def test_what_is_published_is_shown_beside_the_real_set_only():
    got = evaluate_studies(*make(VALIDATION_STUDIES, VALIDATION_IMAGES + 1), resamples=1)
    assert got.published == {}
    assert got.table(["accuracy"])[-1][0] == "overall"


def test_json_says_what_was_evaluated():
    arrays = make(40, 100)
    got = json.loads(json.dumps(evaluate_studies(*arrays, resamples=20).as_dict(), allow_nan=False))
    assert (got["threshold"], got["resamples"], got["confidence"]) == (0.5, 20, 0.95)
    assert (got["overall"]["studies"], got["overall"]["images"]) == (40, 100)
    assert sum(part["studies"] for part in got["by_part"].values()) == 40
    assert sum(part["images"] for part in got["by_part"].values()) == 100
    assert set(got["overall"]["kappa"]) == {"value", "low", "high", "undefined"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0, 1, 1]}, "images of study a must be alike in their labels, got 0 and 1"),
        ({"parts": ["hand", "wrist", "hand"]}, "alike in their body parts, got hand and wrist"),
        ({"parts": ["hand"]}, r"studies and parts must be arrays \[3\] .*\(3,\) and \(1,\)"),
        ({"probabilities": [-0.2, 1, 1]}, "probabilities must be from 0 to 1, got -0.2"),
        ({"threshold": 2}, "threshold must be from 0 to 1, got 2"),
    ],
)
def test_unusable_arguments_are_refused(change, message):
    arguments = {
        "probabilities": [0.1, 0.2, 0.3],
        "labels": [0, 0, 1],
        "studies": ["a", "a", "b"],
        "parts": ["hand", "hand", "hand"],
    }
    with pytest.raises(ValueError, match=message):
        evaluate_studies(**(arguments | change))
