"""One step of training a classifier."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zoo.models.base import Model
from zoo_kernels import jit

# Of the loss of each auxiliary classifier (Szegedy et al. 2015, arXiv 1409.4842, section 5).
AUXILIARY_WEIGHT = 0.3

TrainStep = Callable[
    ["TrainState", jax.Array, jax.Array, jax.Array], tuple["TrainState", jax.Array]
]


class TrainState(NamedTuple):
    """The values that a training step updates.

    Args:
      variables: {"params": …} and, for a model with batch norms, {"batch_stats": …}.
      optimizer: the optimizer's state.
    """

    variables: dict[str, Any]
    optimizer: Any


def init_train_state(variables: Mapping[str, Any], optimizer: Any) -> TrainState:
    """The state before the first step; the optimizer is one of optax."""
    return TrainState(dict(variables), optimizer.init(variables["params"]))


def classification_loss(
    model: Model, variables: Mapping[str, Any], x: jax.Array, labels: jax.Array, key: jax.Array
) -> tuple[jax.Array, dict[str, Any]]:
    """The mean cross-entropy of a batch in training, and of auxiliary classifiers if there are any.

    Auxiliary logits are what a model sows into its collection "intermediates" in training.

    Args:
      model: not a fused one.
      variables: {"params": …} and, for a model with batch norms, {"batch_stats": …}.
      x: normalised images [N, H, W, C].
      labels: class numbers [N].
      key: a random key for dropout.

    Returns:
      (loss, statistics): a scalar in float32 or better, and {"batch_stats": …} if there are any.
    """
    logits, updates = model.apply(
        variables,
        x,
        train=True,
        mutable=["batch_stats", "intermediates"],
        rngs={"dropout": key},
    )
    auxiliary_logits = jax.tree.leaves(updates.get("intermediates", {}))
    main, *auxiliary = (_cross_entropy(y, labels) for y in (logits, *auxiliary_logits))
    statistics = {name: tree for name, tree in updates.items() if name == "batch_stats"}
    return main + AUXILIARY_WEIGHT * sum(auxiliary), statistics


def make_train_step(model: Model, optimizer: Any) -> TrainStep:
    """Compiles a step of training.

    Args:
      model: not a fused one.
      optimizer: one of optax, such as `optax.sgd(0.1, momentum=0.9)`.

    Returns:
      (state, x, labels, key) → (state, loss); see `classification_loss`. The state that is passed
      is donated: its memory is reused for the new state, and it must not be used again.
    """

    def step(
        state: TrainState, x: jax.Array, labels: jax.Array, key: jax.Array
    ) -> tuple[TrainState, jax.Array]:
        def loss(params: Any) -> tuple[jax.Array, dict[str, Any]]:
            return classification_loss(model, {**state.variables, "params": params}, x, labels, key)

        params = state.variables["params"]
        (value, statistics), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, params)
        params = jax.tree.map(lambda p, u: (p + u).astype(p.dtype), params, updates)
        variables = {**state.variables, **statistics, "params": params}
        return TrainState(variables, optimizer_state), value

    return jit(step, donate_argnums=0)


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Logits [N, classes] and class numbers [N] → the mean over the batch."""
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
    return -chosen.mean()
