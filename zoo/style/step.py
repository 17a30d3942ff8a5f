"""One step of training styles, and their evaluation."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zoo.style.losses import Grams, StyleLoss
from zoo.style.network import StyleNetwork
from zoo.style.pixels import to_float
from zoo.style.settings import StyleSettings
from zoo.training import paths
from zoo.training.step import Metrics, TrainState, init_train_state
from zoo_kernels import jit

# What Adam averages squared gradients over: short, as the loss falls a hundredfold at first.
SECOND_MOMENT_DECAY = 0.99
# Steps in which the rate rises: the first gradients say little.
WARMUP_STEPS = 30
# Of the norms, all that a style has of its own.
NORMS = ("**/norm",)


class StyleTraining:
    """What is compiled for a training of styles.

    Args:
      network: what is trained.
      loss: what its pictures are judged by.
      loss_variables: of the loss's network.
      grams: of the styles, {layer: [styles, C, C]}.
      settings: of the training.
    """

    def __init__(
        self,
        network: StyleNetwork,
        loss: StyleLoss,
        loss_variables: Any,
        grams: Grams,
        settings: StyleSettings,
    ) -> None:
        self.network, self.settings = network, settings
        self._loss = loss
        self._trainable = NORMS if settings.norms_only else ("**",)
        # Given to each call: inside the program they would be constants, of which XLA makes copies.
        self._fixed = (loss_variables, grams)
        rate = optax.linear_schedule(settings.rate / WARMUP_STEPS, settings.rate, WARMUP_STEPS)
        self._optimizer = optax.adam(rate, b2=SECOND_MOMENT_DECAY)
        self._copy = jit(functools.partial(self._step, _copying_error), donate_argnums=0)
        self._style = jit(functools.partial(self._step, self._judge), donate_argnums=0)
        self._evaluate = jit(self._compare)

    def begin(self, params: Any) -> TrainState:
        """The state before the first step."""
        return init_train_state(
            {"params": jax.tree.map(jnp.array, params)},  # a copy, as the first step donates it
            self._optimizer,
            jax.random.key(self.settings.seed),
            trainable=self._trainable,
            average=True,
        )

    def step(self, state: TrainState, photos: Any, copies: bool) -> tuple[TrainState, Metrics]:
        """Trains on a batch of photos, each in a style drawn at random.

        Args:
          state: is donated.
          photos: [N, H, W, 3], uint8.
          copies: trains to copy them instead.
        """
        return (self._copy if copies else self._style)(state, photos, *self._fixed)

    def restart(self, state: TrainState) -> TrainState:
        """The state with an optimizer and an average that have forgotten the steps of copying."""
        fresh = self.begin(state.variables["params"])
        return fresh._replace(step=state.step, variables=state.variables, key=state.key)

    def evaluate(self, variables: Any, photos: np.ndarray, weights: Any) -> Metrics:
        """The losses of photos [N, H, W, 3], uint8, with weights of the styles [N, styles]."""
        x = to_float(photos, self.settings.noise)
        metrics: Metrics = self._evaluate(variables, x, photos, weights, *self._fixed)
        return metrics

    def _compare(
        self,
        variables: Any,
        x: jax.Array,
        photos: jax.Array,
        weights: jax.Array,
        fixed: Any,
        grams: Grams,
    ) -> Metrics:
        pictures: Any = self.network.apply(variables, x, weights)
        total, parts = self._judge(pictures, _scale(photos), weights, fixed, grams)
        return {"loss": total, **parts}

    def _judge(
        self, pictures: jax.Array, photos: jax.Array, weights: jax.Array, fixed: Any, grams: Grams
    ) -> tuple[jax.Array, Metrics]:
        """The loss of pictures of photos in the styles that weights [N, styles] name."""
        content = self._loss.maps(fixed, photos, self._loss.content_layers)
        wanted = {
            layer: jnp.einsum("ns,scd->ncd", weights, array) for layer, array in grams.items()
        }
        return self._loss(fixed, pictures, content, wanted)

    def _step(
        self,
        compute: Callable[..., tuple[jax.Array, Metrics]],
        state: TrainState,
        photos: jax.Array,
        fixed: Any,
        grams: Grams,
    ) -> tuple[TrainState, Metrics]:
        styles = self.network.styles
        draw, add = jax.random.split(jax.random.fold_in(state.key, state.step))
        weights = jax.nn.one_hot(jax.random.randint(draw, photos.shape[:1], 0, styles), styles)
        noise = self.settings.noise * jax.random.normal(add, photos.shape)
        params, frozen = paths.split(state.variables["params"], self._trainable)

        def total_loss(params: Any) -> tuple[jax.Array, Metrics]:
            variables = {"params": paths.merge(params, frozen)}
            targets = _scale(photos)
            pictures: Any = self.network.apply(variables, targets + noise, weights)
            return compute(pictures, targets, weights, fixed, grams)

        (loss, parts), gradients = jax.value_and_grad(total_loss, has_aux=True)(params)
        updates, optimizer = self._optimizer.update(gradients, state.optimizer, params)
        params = optax.apply_updates(params, updates)
        variables = {"params": paths.merge(params, frozen)}
        # In the first steps the average forgets its start faster.
        done = optimizer[0].count.astype(jnp.float32)
        decay = jnp.minimum(self.settings.average_decay, done / (9 + done))
        assert state.average is not None
        averaged, _ = paths.split(state.average["params"], self._trainable)
        averaged = optax.incremental_update(params, averaged, 1 - decay)
        average = {"params": paths.merge(averaged, frozen)}
        metrics = {"loss": loss, **parts, "grad_norm": optax.tree.norm(gradients)}
        return TrainState(state.step + 1, variables, optimizer, state.key, average), metrics


def _copying_error(pictures: jax.Array, photos: jax.Array, *_: Any) -> tuple[jax.Array, Metrics]:
    return jnp.square(pictures - photos).mean(), {}


def _scale(photos: jax.Array) -> jax.Array:
    return photos.astype(jnp.float32) / 255
