import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.detection.models.fcos import match_points
from zoo.detection.models.matching import (
    BACKGROUND,
    IGNORED,
    Truth,
    match,
    match_default_boxes,
    pick,
    sample,
)
from zoo.detection.models.proposals import draw_samples

OBJECTS = jnp.asarray([(0, 0, 10, 10), (20, 0, 30, 10)], jnp.float32)
ALL = jnp.asarray([True, True])
# IoUs: 1 with the first object; 0.45 with it; 0.8 with the second; 0 with both.
ANCHORS = jnp.asarray(
    [(0, 0, 10, 10), (0, 0, 4.5, 10), (20, 0, 30, 8), (50, 50, 60, 60)], jnp.float32
)


def test_match():
    matched = match(OBJECTS, ALL, ANCHORS, low=0.4, high=0.5)
    assert matched.tolist() == [0, IGNORED, 1, BACKGROUND]
    assert pick(jnp.asarray([7, 8]), matched).tolist()[:3:2] == [7, 8]


def test_match_keeps_best():
    """Each object has the anchors that cover it best, all of them where they are equal."""
    anchors = jnp.asarray([(0, 0, 10, 2), (0, 8, 10, 10), (0, 0, 1, 1)], jnp.float32)
    wanted = {"low": 0.4, "high": 0.5}
    assert match(OBJECTS[:1], ALL[:1], anchors, **wanted).tolist() == [BACKGROUND] * 3
    best = match(OBJECTS[:1], ALL[:1], anchors, **wanted, keep_best=True)
    assert best.tolist() == [0, 0, BACKGROUND]


@pytest.mark.parametrize("keep_best", [False, True])
def test_match_without_objects(keep_best):
    """What fills up is no object, even where a box would fit."""
    matched = match(OBJECTS, ~ALL, ANCHORS, low=0.4, high=0.5, keep_best=keep_best)
    assert matched.tolist() == [BACKGROUND] * 4
    first = match(OBJECTS, jnp.asarray([False, True]), ANCHORS, low=0.4, high=0.5)
    assert first.tolist() == [BACKGROUND, BACKGROUND, 1, BACKGROUND]


def test_match_default_boxes():
    """Every object has one box, the first of the best; of two objects the last has it."""
    anchors = jnp.asarray([(0, 0, 10, 2), (0, 8, 10, 10), (50, 50, 60, 60)], jnp.float32)
    assert match_default_boxes(OBJECTS[:1], ALL[:1], anchors, 0.5).tolist() == [0, -1, -1]
    both = jnp.asarray([(0, 0, 10, 10), (0, 0, 10, 2)], jnp.float32)
    assert match_default_boxes(both, ALL, anchors, 0.5).tolist() == [1, -1, -1]
    assert match_default_boxes(both, ~ALL, anchors, 0.5).tolist() == [-1, -1, -1]


def test_match_default_boxes_prefers_the_best():
    """An object's best box is its own, though another object covers the box more."""
    objects = jnp.asarray([(0, 0, 10, 10), (0, 0, 10, 3)], jnp.float32)
    anchors = jnp.asarray([(0, 0, 10, 9), (50, 50, 60, 60)], jnp.float32)
    assert match_default_boxes(objects, ALL, anchors, 0.5).tolist() == [1, BACKGROUND]


def test_match_points():
    """A point is the smallest object's of those that it is in the middle of, by their size."""
    anchors = jnp.asarray([(6, 6, 14, 14), (26, 26, 34, 34), (90, 90, 98, 98)], jnp.float32)
    objects = jnp.asarray([(0, 0, 22, 22), (4, 4, 16, 16), (20, 20, 40, 40)], jnp.float32)
    there = jnp.asarray([True, True, True])
    low, high = jnp.zeros(3), jnp.full(3, 64.0)
    assert match_points(objects, there, anchors, low, high).tolist() == [1, 2, BACKGROUND]
    # The farthest edge is 6 pixels from the first point, 12 in the larger object.
    assert match_points(objects, there, anchors, low + 10, high).tolist() == [0, BACKGROUND, -1]
    assert match_points(objects, ~there, anchors, low, high).tolist() == [BACKGROUND] * 3


POSITIVE = jnp.arange(1000) < 30
NEGATIVE = jnp.arange(1000) >= 100


@pytest.mark.parametrize(
    ("count", "share", "objects", "background"),
    [
        (20, 0.5, 10, 10),  # as many as may be
        (100, 0.5, 30, 70),  # there are no more objects
        (5000, 0.5, 30, 900),  # nor any more background
        (3, 0.25, 0, 3),  # of three, less than one
    ],
)
def test_sample(count, share, objects, background):
    drawn = sample(jax.random.key(0), POSITIVE, NEGATIVE, count, share)
    assert [int(each.sum()) for each in drawn] == [objects, background]
    assert not (drawn[0] & ~POSITIVE).any()
    assert not (drawn[1] & ~NEGATIVE).any()


def test_sample_of_nothing():
    nothing = jnp.zeros(10, bool)
    drawn = sample(jax.random.key(0), nothing, nothing, 4, 0.5)
    assert not drawn[0].any()
    assert not drawn[1].any()


def test_sample_by_key():
    first, again, other = (
        sample(jax.random.key(seed), POSITIVE, NEGATIVE, 64, 0.25)[1] for seed in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_sample_is_fair():
    """Each of 1000 is drawn as often as the others: by the binomial's spread of 5 deviations."""
    every = jnp.ones(1000, bool)
    keys = jax.random.split(jax.random.key(0), 400)
    drawn = jax.vmap(lambda key: sample(key, every, ~every, 500, 0.5)[0])(keys)
    often = np.asarray(drawn.sum(0))
    assert np.abs(often - 100).max() < 5 * np.sqrt(400 * 0.25 * 0.75)


def test_sample_draws_no_more_where_numbers_are_equal(monkeypatch):
    """Among 200 000 anchors some random numbers are equal."""
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.full(shape, 0.5))
    drawn = sample(jax.random.key(0), POSITIVE, NEGATIVE, 20, 0.5)
    assert [int(each.sum()) for each in drawn] == [10, 10]


def test_draw_samples():
    """Proposals and objects, and those again in the rest's place, without being counted."""
    truth = Truth(
        jnp.asarray([[(0, 0, 10, 10), (0, 0, 0, 0)]], jnp.float32), jnp.asarray([[5, -1]])
    )
    proposals = jnp.asarray([[(0, 0, 10, 9), (30, 30, 40, 40), (0, 0, 0, 0)]], jnp.float32)
    draw = jax.jit(draw_samples, static_argnums=(5, 6))
    samples, chosen = draw(jax.random.key(0), ANCHORS, proposals, jnp.asarray([2]), truth, 4, 100)
    assert samples.counted.tolist() == [[True, True, True, False, False]]
    assert samples.labels.tolist() == [[5, 0, 5, 5, 0]]
    boxes = [[0, 0, 10, 9], [30, 30, 40, 40], [0, 0, 10, 10]]
    assert chosen[0].tolist() == [*boxes, *boxes[:2]]
    # The second anchor's IoU of 0.45 is neither: a proposal's anchor is background below 0.3.
    assert samples.objects.tolist() == [[True, False, False, False]]
    assert samples.background.tolist() == [[False, False, True, True]]
    # From the first proposal to the object: 0.05 of its height lower, and a ninth higher.
    code = [0, 10 * 0.5 / 9, 0, 5 * np.log(10 / 9)]
    np.testing.assert_allclose(samples.box_codes[0, 0], code, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("room", [0, 2])
def test_draw_samples_without_objects(room):
    """All that counts is background."""
    truth = Truth(jnp.zeros((1, room, 4)), jnp.full((1, room), -1))
    proposals = jnp.asarray([[(0, 0, 10, 9), (0, 0, 0, 0)]], jnp.float32)
    draw = jax.jit(draw_samples, static_argnums=(5, 6))
    samples, _ = draw(jax.random.key(0), ANCHORS, proposals, jnp.asarray([1]), truth, 4, 2)
    assert not samples.objects.any()
    assert samples.background.all()
    assert samples.counted.tolist() == [[True, False]]
    assert not samples.labels.any()
    assert all(jnp.isfinite(codes).all() for codes in (samples.codes, samples.box_codes))
