"""Losses of classifiers, one for each example."""

import jax
import jax.numpy as jnp
import optax


def cross_entropy(
    logits: jax.Array, labels: jax.Array, *, label_smoothing: float = 0.0
) -> jax.Array:
    """The cross-entropy of each example [N].

    Args:
      logits: [N, classes].
      labels: class numbers [N], or probabilities [N, classes] as MixUp makes them.
      label_smoothing: the share of the probability that is spread over all classes evenly
        (Szegedy et al. 2016, arXiv 1512.00567).
    """
    if labels.ndim == 1 and not label_smoothing:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if labels.ndim == 1:
        labels = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    if label_smoothing:
        labels = optax.smooth_labels(labels, label_smoothing)
    return optax.softmax_cross_entropy(logits, labels.astype(logits.dtype))


def count_correct(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> jax.Array:
    """The weights of the examples whose largest logit is the (likeliest) label's, summed."""
    truth = labels if labels.ndim == 1 else labels.argmax(-1)
    return jnp.where(logits.argmax(-1) == truth, weights, 0).sum()
