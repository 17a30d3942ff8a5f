"""MixUp and CutMix beside NumPy, for the share that a key draws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.training.mixing import mix

CLASSES = 3
SIZE = 20
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(5, SIZE, SIZE, 2)).astype(np.float32)
LABELS = np.array([0, 1, 2, 2, 1], np.int32)
WEIGHTS = np.array([1.0, 2.0, 0.0, 0.5, 1.0], np.float32)
KEYS = [jax.random.key(number) for number in range(20)]


@functools.cache
def compiled(mixup, cutmix):
    return jax.jit(functools.partial(mix, num_classes=CLASSES, mixup=mixup, cutmix=cutmix))


def mixed(key, mixup=0.0, cutmix=0.0, images=IMAGES, labels=LABELS, weights=WEIGHTS):
    got = compiled(mixup, cutmix)(images, labels, weights, key)
    return [np.asarray(array, np.float64) for array in got]


def reference_labels(share, labels=LABELS, weights=WEIGHTS):
    """Probabilities and weights where an image has `share` of its result, by a plain loop."""
    truths, sums = [], []
    for own, other in zip(range(len(labels)), reversed(range(len(labels))), strict=True):
        truth = np.zeros(CLASSES)
        truth[labels[own]] += share * weights[own]
        truth[labels[other]] += (1 - share) * weights[other]
        sums.append(share * float(weights[own]) + (1 - share) * float(weights[other]))
        truths.append(truth / sums[-1] if sums[-1] else truth)
    return np.array(truths), np.array(sums)


def find_share(got, own, other):
    """The share of the first image in the mixture of two, by least squares."""
    difference = own.astype(np.float64) - other
    return float(((got - other) * difference).sum() / (difference**2).sum())


@pytest.mark.parametrize("key", KEYS[:5])
def test_mixup_adds_pairs_in_one_share(key):
    images, labels, weights = mixed(key, mixup=0.4)
    share = find_share(images[0], IMAGES[0], IMAGES[-1])
    assert 0 <= share <= 1
    np.testing.assert_allclose(images, share * IMAGES + (1 - share) * IMAGES[::-1], atol=1e-5)
    want_labels, want_weights = reference_labels(share)
    np.testing.assert_allclose(weights, want_weights, atol=1e-5)
    np.testing.assert_allclose(labels, want_labels, atol=1e-5)


@pytest.mark.parametrize("key", KEYS)
def test_cutmix_pastes_a_rectangle_whose_area_is_the_share_of_the_labels(key):
    images, labels, weights = mixed(key, cutmix=1.0)
    pasted = (images[0] != IMAGES[0]).any(axis=-1)
    np.testing.assert_array_equal(images[0], np.where(pasted[..., None], IMAGES[-1], IMAGES[0]))
    rows, columns = np.flatnonzero(pasted.any(axis=1)), np.flatnonzero(pasted.any(axis=0))
    assert pasted.sum() == len(rows) * len(columns)
    if len(rows):
        assert pasted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    for number in range(len(IMAGES)):
        want = np.where(pasted[..., None], IMAGES[-1 - number], IMAGES[number])
        np.testing.assert_array_equal(images[number], want)
    want_labels, want_weights = reference_labels(1 - pasted.mean())
    np.testing.assert_allclose(weights, want_weights, atol=1e-6)
    np.testing.assert_allclose(labels, want_labels, atol=1e-6)


def test_shares_are_beta_distributed():
    ones, zeros = np.ones((2, 16, 16, 1), np.float32), np.zeros((2, 16, 16, 1), np.float32)
    pair, keys = np.concatenate([ones[:1], zeros[:1]]), jax.random.split(jax.random.key(0), 2000)
    draw = jax.vmap(lambda key: mix(pair, LABELS[:2], jnp.ones(2), key, num_classes=3, mixup=0.4))
    shares = np.asarray(jax.jit(draw)(keys)[0][:, 0, 0, 0, 0], np.float64)
    # Of Beta(α, α): mean 1/2, variance 1 / (4 (2 α + 1)); over 2000 draws within 5 deviations.
    assert shares.mean() == pytest.approx(0.5, abs=5 * 0.373 / 2000**0.5)
    assert shares.var() == pytest.approx(1 / (4 * 1.8), rel=0.1)


def test_with_both_each_batch_has_one_of_the_two():
    cut = 0
    for key in KEYS:
        images, *_ = mixed(key, mixup=1.0, cutmix=1.0)
        own, other = images[0] == IMAGES[0], images[0] == IMAGES[-1]
        cut += (own | other).all()
        assert (own | other).all() or not (own | other).any()
    assert 3 < cut < 17


def test_labels_are_distributions_where_an_image_counts():
    for key in KEYS[:5]:
        _, labels, weights = mixed(key, mixup=1.0, cutmix=1.0)
        np.testing.assert_allclose(labels[weights > 0].sum(axis=1), 1, rtol=1e-6)
        assert (labels >= 0).all()
        assert weights.sum() == pytest.approx(WEIGHTS.sum(), rel=1e-6)


def test_an_image_that_cannot_be_read_gives_no_label():
    """The first has weight 0: what is mixed with it has the label of the other alone."""
    weights = np.array([0.0, 1.0, 1.0, 1.0, 1.0], np.float32)
    _, truth, summed = mixed(KEYS[0], mixup=0.4, weights=weights)
    np.testing.assert_allclose(truth[[0, 4]], [[0, 1, 0], [0, 1, 0]], atol=1e-6)
    assert summed[0] + summed[4] == pytest.approx(1)


def test_without_an_image_that_counts_nothing_is_nan():
    images, labels, weights = mixed(KEYS[0], mixup=0.4, weights=np.zeros(5, np.float32))
    assert np.isfinite(images).all()
    assert np.isfinite(labels).all()
    assert not weights.any()


def test_the_dtype_of_images_stays():
    images, labels = jnp.zeros((2, 8, 8, 1), jnp.bfloat16), jnp.array([0, 1])
    both = functools.partial(mix, num_classes=2, mixup=1.0, cutmix=1.0)
    got = jax.eval_shape(both, images, labels, jnp.ones(2), KEYS[0])
    assert [array.dtype for array in got] == [jnp.bfloat16, jnp.float32, jnp.float32]
