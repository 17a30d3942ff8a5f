"""Non-maximum suppression against a plain greedy loop, and the selection of scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.detection import nms as nms_module
from zoo.detection import selection
from zoo.detection.nms import batched_nms, multiclass_nms, nms
from zoo.detection.selection import top_scores
from zoo.runtime.checks import ArgumentError

SIZE = 64  # boxes in most tests
OUTPUTS = 40


def find_greedily(boxes, scores, threshold, classes=None, most=None):
    """The indices of boxes that are kept, by the definition."""
    classes = np.zeros(len(scores)) if classes is None else classes
    present = ~np.isnan(boxes).any(1) & ~np.isnan(scores) & (scores > -np.inf)
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        rivals = [j for j in kept if classes[j] == classes[i]]
        if present[i] and all(overlap(boxes[i], boxes[j]) <= threshold for j in rivals):
            kept.append(i)
    return kept[:most]


def overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    intersection = max(width, np.float32(0)) * max(height, np.float32(0))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection
    return float(intersection / union) if union > 0 else 0


def make_case(seed, count, spread=40):
    """Boxes at integers, so that areas are exact, some without area, and scores with ties."""
    random = np.random.default_rng(seed)
    start = random.integers(0, spread, (count, 2))
    boxes = np.concatenate([start, start + random.integers(0, 20, (count, 2))], axis=1)
    scores = random.integers(0, count, count) / np.float32(count)
    return boxes.astype(np.float32), scores.astype(np.float32), random.integers(0, 3, count)


run = jax.jit(
    functools.partial(batched_nms, max_outputs=OUTPUTS),
    static_argnames=("iou_threshold", "score_threshold"),
)


def check(result, expected):
    indices, count = result
    assert indices.dtype == jnp.int32
    np.testing.assert_array_equal(indices[:count], expected)
    assert (np.asarray(indices[count:]) == -1).all()


@pytest.mark.parametrize("seed", range(20))
def test_greedy(seed):
    boxes, scores, classes = make_case(seed, SIZE)
    expected = find_greedily(boxes, scores, 0.3, classes, OUTPUTS)
    assert 0 < len(expected) < SIZE
    check(run(boxes, scores, classes, 0.3), expected)


@pytest.mark.parametrize("seed", range(10))
def test_nan_is_absent(seed):
    boxes, scores, classes = make_case(seed, SIZE)
    random = np.random.default_rng(seed)
    boxes[random.random(SIZE) < 0.2, random.integers(4)] = np.nan
    scores[random.random(SIZE) < 0.2] = np.nan
    scores[random.random(SIZE) < 0.1] = -np.inf
    check(run(boxes, scores, classes, 0.3), find_greedily(boxes, scores, 0.3, classes, OUTPUTS))


def test_nothing_is_there():
    boxes = np.full((SIZE, 4), np.nan, np.float32)
    scores, classes = np.ones(SIZE, np.float32), np.zeros(SIZE, np.int32)
    check(run(boxes, scores, classes, 0.3), [])
    check(nms(boxes[:0], scores[:0], 0.3, max_outputs=5), [])
    *kept, count = multiclass_nms(boxes[:0], np.zeros((0, 7)), 0.3, max_outputs=5)
    assert (np.asarray(kept) == -1).all()
    assert count == 0


def test_chain_of_any_length():
    # Each box suppresses the next one, which would suppress the one after it.
    starts = np.arange(300, dtype=np.float32)
    boxes = np.stack([starts, 0 * starts, starts + 3, 0 * starts + 1], axis=1)
    check(nms(boxes, -starts, 0.4, max_outputs=300), np.arange(0, 300, 2))


def test_threshold_is_compared_in_float64():
    # Their overlap is 3 / 5, which is above 0.6 if it is rounded to float32, and 0.6 is not.
    boxes = np.array([[0, 0, 4, 1], [1, 0, 5, 1]], np.float32)
    check(nms(boxes, jnp.ones(2), 0.6, max_outputs=2), [0])
    check(nms(boxes, jnp.ones(2), float(np.float32(0.6)), max_outputs=2), [0, 1])


@pytest.mark.parametrize("most", [40, 2000])
def test_many_boxes(most):
    boxes, scores, classes = make_case(0, 3000, spread=150)
    assert len(scores) > nms_module.CHUNK
    expected = find_greedily(boxes, scores, 0.2, classes)
    assert 1000 < len(expected) < 2000
    result = batched_nms(boxes, scores, classes, 0.2, max_outputs=most)
    check(result, expected[:most])


def test_score_threshold():
    boxes, scores, classes = make_case(3, SIZE)
    high = np.where(scores > 0.5, scores, -np.inf)
    expected = find_greedily(boxes, high, 0.3, classes, OUTPUTS)
    assert 0 < len(expected) < OUTPUTS
    check(run(boxes, scores, classes, 0.3, score_threshold=0.5), expected)


def test_vmap():
    cases = [make_case(seed, SIZE) for seed in range(3)]
    results = jax.vmap(lambda *case: run(*case, 0.3))(*map(np.stack, zip(*cases, strict=True)))
    for number, case in enumerate(cases):
        check([x[number] for x in results], find_greedily(*case[:2], 0.3, case[2], OUTPUTS))


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("limit", [None, 6])
def test_multiclass(by_class, limit):
    classes = 5
    boxes, _, _ = make_case(7, SIZE)
    random = np.random.default_rng(0)
    scores = random.permutation(SIZE * classes).reshape(SIZE, classes) / np.float32(1000)
    scores = scores.astype(np.float32)
    scores[5], scores[6, 2] = np.nan, -np.inf
    all_boxes = np.repeat(boxes[:, None], classes, axis=1)
    if by_class:
        all_boxes = all_boxes + random.integers(-2, 3, all_boxes.shape).astype(np.float32)
    candidates = scores.copy()
    if limit is not None:
        for number in range(classes):
            worse = np.argsort(-np.nan_to_num(scores[:, number], nan=-1), kind="stable")[limit:]
            candidates[worse, number] = -np.inf
    candidates[candidates <= 0.1] = -np.inf
    expected = find_greedily(
        all_boxes.reshape(-1, 4),
        candidates.reshape(-1),
        0.3,
        np.tile(np.arange(classes), SIZE),
        OUTPUTS,
    )
    indices, labels, count = multiclass_nms(
        all_boxes if by_class else boxes,
        scores,
        0.3,
        max_outputs=OUTPUTS,
        score_threshold=0.1,
        max_per_class=limit,
    )
    assert count == len(expected) > 10
    np.testing.assert_array_equal(indices[:count], np.array(expected) // classes)
    np.testing.assert_array_equal(labels[:count], np.array(expected) % classes)
    assert (np.asarray([indices, labels])[:, count:] == -1).all()


def test_limit_over_several_chunks(monkeypatch):
    monkeypatch.setattr(nms_module, "CHUNK", 32)
    monkeypatch.setattr(nms_module, "TILE", 16)
    boxes, _, _ = make_case(8, SIZE, spread=900)  # hardly any overlaps
    scores = np.random.default_rng(0).random((SIZE, 3), np.float32) + np.float32([0, 1, 2])
    indices, labels, count = multiclass_nms(boxes, scores, 0.5, max_outputs=150, max_per_class=20)
    expected = find_greedily(boxes, scores[:, 2], 0.5)[:20]
    np.testing.assert_array_equal(np.bincount(np.asarray(labels[:count])), [20, 20, 20])
    np.testing.assert_array_equal(indices[:20], expected)


@pytest.mark.parametrize("large", [1, 1 << 20])
def test_top_scores(monkeypatch, large):
    monkeypatch.setattr(selection, "LARGE", large)  # two steps, or one
    random = np.random.default_rng(0)
    scores = random.integers(0, 300, 5000).astype(np.float32)  # many are equal
    scores[random.random(5000) < 0.3] = np.nan
    scores[7] = np.inf
    order = np.argsort(-np.where(np.isnan(scores), -np.inf, scores), kind="stable")
    best, indices = top_scores(scores, 100)
    np.testing.assert_array_equal(indices, order[:100])
    np.testing.assert_array_equal(best, scores[order[:100]])
    best, indices = top_scores(scores, 100, threshold=298)
    count = np.count_nonzero(scores > 298)
    assert 1 < count < 100
    np.testing.assert_array_equal(indices, [*order[:count], *[-1] * (100 - count)])
    assert (np.asarray(best[count:]) == -np.inf).all()


def test_fewer_scores_than_wanted():
    best, indices = top_scores(jnp.array([1.0, 2.0]), 4)
    np.testing.assert_array_equal(best, [2, 1, -np.inf, -np.inf])
    np.testing.assert_array_equal(indices, [1, 0, -1, -1])
    np.testing.assert_array_equal(top_scores(jnp.zeros(0), 2)[1], [-1, -1])


def test_wrong_arguments():
    boxes, scores = jnp.zeros((3, 4)), jnp.zeros(3)
    with pytest.raises(ArgumentError, match="iou_threshold must be a number from 0 to 1, got"):
        nms(boxes, scores, 1.5, max_outputs=2)
    with pytest.raises(ArgumentError, match="max_outputs must be an integer of at least 1, got 0"):
        nms(boxes, scores, 0.5, max_outputs=0)
    with pytest.raises(ArgumentError, match=r"boxes must be \[N, 4\], scores and classes \[N\]"):
        nms(boxes, scores[:2], 0.5, max_outputs=2)
    with pytest.raises(ArgumentError, match=r"scores must be \[N, classes\]"):
        multiclass_nms(boxes, scores, 0.5, max_outputs=2)
