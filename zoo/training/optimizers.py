"""Optimizers and schedules of the learning rate, made by optax from settings."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from zoo.models.base import Model
from zoo.surgery.describe import describe
from zoo.training.settings import Settings
from zoo_pretrained.checkpoint import flatten_variables, unflatten_variables

# Of imported models, for rates that decay with the depth.
IMPORTED_BLOCKS = 12

Schedule = Any  # an integer → the learning rate


def make_schedule(settings: Settings, steps: int, steps_per_epoch: float) -> Schedule:
    """The learning rate of each step, counted from 0; without what a plateau makes of it."""
    warmup = min(round(settings.warmup_epochs * steps_per_epoch), steps)
    rate, rest = settings.rate, max(steps - warmup, 1)
    if settings.schedule == "cosine":
        after = optax.cosine_decay_schedule(rate, rest)
    elif settings.schedule == "step":
        interval = max(round(settings.step_epochs * steps_per_epoch), 1)
        after = optax.exponential_decay(rate, interval, settings.step_factor, staircase=True)
    else:
        after = optax.constant_schedule(rate)
    if not warmup:
        return after
    # The first step's rate is not 0, which would waste it.
    rise = optax.linear_schedule(rate / warmup, rate, max(warmup - 1, 1))
    return optax.join_schedules([rise, after], [warmup])


def make_optimizer(
    settings: Settings, model: Model, schedule: Schedule, *, channels: int = 3
) -> Any:
    """The optimizer of optax that settings describe.

    Its state has a factor of the learning rate, which starts at 1: see `scale_rate`.

    Args:
      settings: which.
      model: whose order of blocks `layer_decay` follows.
      schedule: the learning rate of each step.
      channels: of the model's images.
    """
    parts: list[Any] = []
    if settings.clip_norm:
        parts.append(optax.clip_by_global_norm(settings.clip_norm))
    decay = optax.add_decayed_weights(settings.weight_decay, mask=find_decayed)
    match settings.optimizer:
        case "sgd":
            parts += [decay, optax.trace(settings.momentum)]
        case "rmsprop":  # the square root includes epsilon, as in TensorFlow's (MobileNets' recipe)
            rms = optax.scale_by_rms(0.9, eps=1e-3, eps_in_sqrt=True, initial_scale=1.0)
            parts += [decay, rms, optax.trace(settings.momentum)]
        case "adamw":
            parts += [optax.scale_by_adam(), decay]
        case "lamb":  # scales updates of kernels alone, as its authors' code does
            ratio = optax.masked(optax.scale_by_trust_ratio(), find_decayed)
            parts += [optax.scale_by_adam(eps=1e-6), decay, ratio]
    if settings.layer_decay != 1:
        parts.append(_scale_layers(model, settings.layer_decay, channels))
    parts.append(optax.inject_hyperparams(optax.scale)(step_size=1.0))
    parts.append(optax.scale_by_learning_rate(schedule))
    return optax.chain(*parts)


def scale_rate(optimizer_state: Any, factor: float) -> Any:
    """The state of a `make_optimizer`, with another factor of the learning rate."""
    old = optax.tree.get(optimizer_state, "step_size")
    return optax.tree.set(optimizer_state, step_size=jnp.full_like(old, factor))


def find_decayed(params: Mapping[str, Any]) -> dict[str, Any]:
    """Which parameters weight decay shrinks: kernels, and not norms, biases and slopes.

    Those of imported models have names of their own; there it is what has two sides and more.
    """
    return unflatten_variables(
        {
            path: path.endswith("kernel") or sum(side > 1 for side in np.shape(array)) > 1
            for path, array in flatten_variables(params)
        }
    )


def layer_factors(model: Model, decay: float, channels: int = 3) -> dict[str, float]:
    """The factor of the rate of each block, "stage2/block3" or an outermost layer.

    That of the last is 1, and of each before it `decay` times as much (Clark et al. 2020, arXiv
    2003.10555, section 3). Parameters of an imported model are in twelve blocks of equal number.
    """
    if model.is_imported:  # whose parameters lie side by side, in the order of their nodes
        params = list(model.variable_shapes()["params"])
        groups = {name: n * IMPORTED_BLOCKS // len(params) for n, name in enumerate(params)}
        groups[model.classifier[-1]] = IMPORTED_BLOCKS
        return {name: decay ** (IMPORTED_BLOCKS - group) for name, group in groups.items()}
    blocks = [block.path for block in describe(model, channels=channels).by(2)]
    names = list(dict.fromkeys(_block_of(path) for path in blocks))
    return {name: decay ** (len(names) - 1 - depth) for depth, name in enumerate(names)}


def _block_of(path: str) -> str:
    """The block that a path is in: "stage2/block3" of "stage2/block3/conv1/kernel"."""
    first, *rest = path.split("/")
    return f"{first}/{rest[0]}" if rest and rest[0].startswith(("block", "layer")) else first


def _scale_layers(model: Model, decay: float, channels: int) -> Any:
    factors = layer_factors(model, decay, channels)

    def scale(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        scaled = {
            path: update * factors.get(_block_of(path), 1.0)
            for path, update in flatten_variables(updates)
        }
        return unflatten_variables(scaled), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), scale)
