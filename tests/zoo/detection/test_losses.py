"""Losses of detectors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from zoo.detection.losses import giou_loss, sigmoid_focal_loss, smooth_l1
from zoo.runtime.checks import ArgumentError

LOGITS = jnp.array([-30.0, -2, 0, 0.5, 30])


@pytest.mark.parametrize("target", [0, 1])
def test_focal_loss(target):
    targets = jnp.full(LOGITS.shape, target)
    # Equation 5 of the paper, in float64, where 1 - p is computed as the sigmoid of -x.
    sign = 1 if target else -1
    x = sign * np.asarray(LOGITS, np.float64)
    log_probability, error = -np.log1p(np.exp(-x)), 1 / (1 + np.exp(x))
    alpha = 0.25 if target else 0.75
    # The smallest loss, 6e-40, may be 0 in float32.
    np.testing.assert_allclose(
        sigmoid_focal_loss(LOGITS, targets), -alpha * error**2 * log_probability, 2e-6, 1e-37
    )


def test_focal_loss_without_focus_is_cross_entropy():
    targets = jnp.array([0, 1, 0, 1, 1])
    expected = optax.sigmoid_binary_cross_entropy(LOGITS, targets)
    loss = sigmoid_focal_loss(LOGITS, targets, alpha=-1, gamma=0)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradients_of_sure_logits_are_finite(gamma):
    logits = jnp.array([-1e4, -100, 100, 1e4])
    for target in (0, 1):
        gradient = jax.grad(
            lambda x, target=target: sigmoid_focal_loss(x, x * 0 + target, gamma=gamma).sum()
        )(logits)
        assert jnp.isfinite(gradient).all()


def test_smooth_l1():
    difference = jnp.array([-2, -0.5, -0.25, 0, 0.25, 0.5, 2])
    expected = [1.75, 0.25, 0.0625, 0, 0.0625, 0.25, 1.75]
    np.testing.assert_array_equal(smooth_l1(difference, jnp.zeros(7), beta=0.5), expected)
    np.testing.assert_array_equal(smooth_l1(difference, jnp.zeros(7), 0), abs(difference))
    for beta in (0, 0.5):
        gradient = jax.grad(lambda x, beta=beta: smooth_l1(x, jnp.zeros(7), beta).sum())(difference)
        slopes = np.clip(np.asarray(difference) / beta, -1, 1) if beta else np.sign(difference)
        np.testing.assert_array_equal(gradient, slopes)


def test_giou_loss():
    boxes = jnp.array([[0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 2, 2]], jnp.float32)
    targets = jnp.array([[0, 0, 4, 4], [2, 0, 6, 4], [8, 8, 10, 10]], jnp.float32)
    # Equal; half over each other: IoU 1 / 3, and the hull is the union; far apart: the union is 8
    # of the hull's 100.
    np.testing.assert_allclose(giou_loss(boxes, targets), [0, 2 / 3, 1.92], atol=1e-6)


def test_giou_loss_of_boxes_without_area():
    boxes = jnp.array([[1, 1, 1, 1], [1, 1, 1, 1], [5, 5, 2, 2]], jnp.float32)
    targets = jnp.array([[1, 1, 1, 1], [0, 0, 3, 3], [0, 0, 3, 3]], jnp.float32)
    loss, gradient = jax.value_and_grad(lambda x: giou_loss(x, targets).sum())(boxes)
    assert jnp.isfinite(loss)
    assert jnp.isfinite(gradient).all()


def test_wrong_arguments():
    with pytest.raises(ArgumentError, match="alpha must be from 0 to 1, or -1"):
        sigmoid_focal_loss(LOGITS, LOGITS, alpha=2)
    with pytest.raises(ArgumentError, match="gamma must be a number"):
        sigmoid_focal_loss(LOGITS, LOGITS, gamma=-1)
    with pytest.raises(ArgumentError, match="beta must be a number"):
        smooth_l1(LOGITS, LOGITS, -1)
