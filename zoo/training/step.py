"""One step of training a classifier."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zoo.models.base import Model
from zoo_kernels import jit

# The weight of auxiliary classifiers' losses (Szegedy et al. 2015, arXiv 1409.4842, section 5).
AUXILIARY = 0.3

TrainStep = Callable[
    ["TrainState", jax.Array, jax.Array, jax.Array], tuple["TrainState", jax.Array]
]


class TrainState(NamedTuple):
    """What a step of training changes.

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
    """The mean cross-entropy of a batch in training, with auxiliary classifiers' if there are any.

    Args:
      model: not a fused one.
      variables: {"params": …} and, for a model with batch norms, {"batch_stats": …}.
      x: normalised images [N, H, W, C].
      labels: the classes' numbers [N].
      key: for dropout.

    Returns:
      (loss, new): a scalar in float32 or better, and {"batch_stats": …} if the model has any.
    """
    logits, new = model.apply(
        variables,
        x,
        train=True,
        mutable=["batch_stats", "intermediates"],
        rngs={"dropout": key},
    )
    auxiliary = jax.tree.leaves(new.get("intermediates", {}))
    main, *others = (_cross_entropy(y, labels) for y in (logits, *auxiliary))
    kept = {name: new[name] for name in ("batch_stats",) if name in new}
    return main + AUXILIARY * sum(others), kept


def make_train_step(model: Model, optimizer: Any) -> TrainStep:
    """A compiled step of training.

    Args:
      model: not a fused one.
      optimizer: of optax, such as `optax.sgd(0.1, momentum=0.9)`.

    Returns:
      (state, x, labels, key) → (state, loss); see `classification_loss`. The state that is given is
      donated: its memory becomes that of the new one, and it can be used no more.
    """

    def step(
        state: TrainState, x: jax.Array, labels: jax.Array, key: jax.Array
    ) -> tuple[TrainState, jax.Array]:
        def of(params: Any) -> tuple[jax.Array, dict[str, Any]]:
            return classification_loss(model, {**state.variables, "params": params}, x, labels, key)

        params = state.variables["params"]
        (value, new), gradients = jax.value_and_grad(of, has_aux=True)(params)
        updates, kept = optimizer.update(gradients, state.optimizer, params)
        params = jax.tree.map(lambda p, u: (p + u).astype(p.dtype), params, updates)
        return TrainState({**state.variables, **new, "params": params}, kept), value

    return jit(step, donate_argnums=0)


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """[N, classes], [N] → the mean over the batch."""
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
    return -chosen.mean()
