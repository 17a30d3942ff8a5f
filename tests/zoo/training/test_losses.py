"""Losses beside float64 by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from zoo.training.losses import count_correct, cross_entropy

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(scale=5, size=(6, 4)).astype(np.float32)
LABELS = np.array([0, 3, 1, 1, 2, 0])
SHARES = RANDOM.dirichlet(np.ones(4), 6).astype(np.float32)


def reference(logits, truth):
    """−Σ p log softmax(x) in float64."""
    x = logits.astype(np.float64)
    x = x - x.max(axis=1, keepdims=True)
    return -(truth * (x - np.log(np.exp(x).sum(axis=1, keepdims=True)))).sum(axis=1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("labels", [LABELS, SHARES], ids=["numbers", "probabilities"])
def test_cross_entropy_beside_float64(labels, smoothing):
    truth = np.eye(4)[labels] if labels.ndim == 1 else labels.astype(np.float64)
    truth = (1 - smoothing) * truth + smoothing / 4
    got = cross_entropy(jnp.asarray(LOGITS), jnp.asarray(labels), label_smoothing=smoothing)
    assert got.shape == (6,)
    assert got.dtype == jnp.float32
    # A few roundings of terms of up to 20.
    np.testing.assert_allclose(got, reference(LOGITS, truth), rtol=2e-6, atol=1e-5)


def test_the_gradient_is_the_softmax_less_the_label():
    gradient = jax.grad(lambda x: cross_entropy(x, jnp.asarray(LABELS)).sum())(jnp.asarray(LOGITS))
    exponentials = np.exp(LOGITS.astype(np.float64))
    want = exponentials / exponentials.sum(axis=1, keepdims=True) - np.eye(4)[LABELS]
    np.testing.assert_allclose(gradient, want, atol=1e-6)


def test_numbers_and_their_probabilities_have_one_loss():
    for smoothing in (0.0, 0.1):
        np.testing.assert_allclose(
            cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABELS), label_smoothing=smoothing),
            cross_entropy(jnp.asarray(LOGITS), jnp.eye(4)[LABELS], label_smoothing=smoothing),
            rtol=1e-6,
            atol=1e-6,
        )


def test_the_plain_loss_is_optax_s():
    np.testing.assert_array_equal(
        cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABELS)),
        optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(LOGITS), jnp.asarray(LABELS)),
    )


def test_what_is_right_is_counted_by_weight():
    logits = jnp.array([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [0.0, 9.0]])
    weights = jnp.array([0.5, 0.25, 4.0, 0.0])
    labels = jnp.array([0, 1, 1, 1])
    assert float(count_correct(logits, labels, weights)) == 0.75
    shares = jnp.array([[0.6, 0.4], [0.1, 0.9], [0.2, 0.8], [0.0, 1.0]])
    assert float(count_correct(logits, shares, weights)) == 0.75
