"""Losses of classifiers."""

import jax
import jax.numpy as jnp

from zoo.onnx.registry import Call, Value, operator


@operator("NegativeLogLikelihoodLoss")
def compute_nll(call: Call, x: Value, labels: Value, weights: Value = None) -> Value:
    """Minus the log probabilities [N, C, …] of labels [N, …], which may be weighted by class."""
    ignored = call.get("ignore_index")
    labels = jnp.asarray(labels)
    counted = jnp.ones(labels.shape, bool) if ignored is None else labels != ignored
    safe = jnp.where(counted, labels, 0)
    picked = jnp.take_along_axis(jnp.asarray(x), safe[:, None], 1)[:, 0]
    weight = jnp.asarray(counted, picked.dtype)
    if weights is not None:
        weight = weight * jnp.asarray(weights)[safe]
    losses = -picked * weight
    match call.text("reduction", "mean"):
        case "none":
            return losses
        case "sum":
            return losses.sum()
        case _:
            return losses.sum() / weight.sum()


@operator("SoftmaxCrossEntropyLoss")
def compute_cross_entropy(call: Call, x: Value, labels: Value, weights: Value = None) -> Value:
    """The same of scores [N, C, …]; and their log probabilities."""
    log_probabilities = jax.nn.log_softmax(jnp.asarray(x), 1)
    return compute_nll(call, log_probabilities, labels, weights), log_probabilities
