"""Losses of detectors, elementwise: what is averaged, and over how many, is the model's to say."""

import jax
import jax.numpy as jnp

from zoo.detection.boxes import generalized_iou
from zoo.runtime.checks import ArgumentError, check_number


def sigmoid_focal_loss(
    logits: jax.Array, targets: jax.Array, alpha: float = 0.25, gamma: float = 2.0
) -> jax.Array:
    """The focal loss: cross-entropy that counts less, the better a class is known already.

    Lin et al. 2017, arXiv 1708.02002, equation 5, of the sigmoid of each logit by itself.

    Args:
      logits: of any shape.
      targets: 0 or 1, or between them, of the same shape.
      alpha: the weight of target 1, from 0 to 1; of target 0 it is 1 - alpha. -1: both weigh 1.
      gamma: how much less what is known counts; 0 is cross-entropy.

    Returns:
      The loss of each logit, of the logits' shape.

    Raises:
      ArgumentError: alpha or gamma is outside its range.
    """
    if alpha != -1 and not 0 <= alpha <= 1:
        raise ArgumentError(f"alpha must be from 0 to 1, or -1 for no weights, got {alpha!r}")
    check_number("gamma", gamma)
    targets = targets.astype(logits.dtype)
    # Without the difference of two large numbers that softplus(logits) - logits * targets is.
    entropy = jnp.maximum(logits, 0) - logits * targets + jax.nn.softplus(-_absolute(logits))
    probability, complement = jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits)
    error = probability * (1 - targets) + complement * targets
    # A power of 0 has no finite derivative where gamma is less than 1.
    loss = entropy * jnp.maximum(error, jnp.finfo(error.dtype).tiny) ** gamma
    if alpha == -1:
        return loss
    return loss * (alpha * targets + (1 - alpha) * (1 - targets))


def smooth_l1(x: jax.Array, y: jax.Array, beta: float = 1.0) -> jax.Array:
    """The absolute difference, made smooth around 0: squared where it is less than beta.

    Girshick 2015, "Fast R-CNN", arXiv 1504.08083, equation 3, as PyTorch scales it:
    d² / (2 · beta) where d = |x - y| < beta, otherwise d - beta / 2.

    Args:
      x, y: arrays that broadcast with each other.
      beta: where the square ends; 0 is the absolute difference.

    Raises:
      ArgumentError: beta is negative.
    """
    check_number("beta", beta)
    distance = _absolute(x - y)
    if beta == 0:
        return distance
    return jnp.where(distance < beta, distance**2 / (2 * beta), distance - beta / 2)


def giou_loss(boxes: jax.Array, targets: jax.Array, eps: float = 1e-7) -> jax.Array:
    """1 - the generalised intersection over union of boxes [..., 4] and their targets → [...].

    From 0 to 2 (Rezatofighi et al. 2019, arXiv 1902.09630). Its gradients are finite for boxes
    without area, too.

    Args:
      boxes, targets: (x1, y1, x2, y2), of the same shape.
      eps: added to what is divided by.
    """
    return 1 - generalized_iou(boxes, targets, eps)


def _absolute(x: jax.Array) -> jax.Array:
    """|x|, whose derivative at 0 is 0."""
    return jnp.sign(x) * x
