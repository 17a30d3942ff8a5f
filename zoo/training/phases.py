"""The phases of a training: first perhaps only the classifier, then all that is not frozen."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import jax
import numpy as np

from zoo.inference.trained import Trained
from zoo.models.base import Model
from zoo.training import paths
from zoo.training.devices import Placement
from zoo.training.optimizers import Schedule, make_optimizer, make_schedule
from zoo.training.settings import Settings, SettingsError
from zoo.training.step import Objective, TrainState, TrainStep, init_train_state, make_train_step


@dataclasses.dataclass(frozen=True)
class Plan:
    """What tells one phase of a training from another.

    Args:
      first_step, last_step: the numbers of steps made before it, and at its end.
      trainable: patterns of the parameters that are trained.
      schedule: the rate of each of its steps, counted from 0.
      freeze_norms: patterns of the norms that keep their statistics.
    """

    first_step: int
    last_step: int
    trainable: tuple[str, ...]
    schedule: Schedule
    freeze_norms: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Phase(Plan):
    """Steps with one optimizer: a plan, and what is compiled for it.

    Args:
      optimizer: sees only the trainable parameters.
      step: compiled for `optimizer`.
      placement: where its state lies.
    """

    optimizer: Any
    step: TrainStep
    placement: Placement

    def begin(self, state: TrainState) -> TrainState:
        """The state with a fresh optimizer for what this phase trains."""
        params, _ = paths.split(state.variables["params"], self.trainable)
        fresh = jax.jit(self.optimizer.init)(params)
        return state._replace(optimizer=jax.device_put(fresh, self.placement.shardings(fresh)))

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 1, without what a plateau makes of it."""
        return float(self._rates[step - 1 - self.first_step])

    @cached_property
    def _rates(self) -> np.ndarray:
        """Of all steps at once: one by one they would wait for the device, which is training."""
        counts = np.arange(self.last_step - self.first_step)
        return np.asarray(jax.jit(jax.vmap(self.schedule))(counts))


def make_phases(
    model: Model,
    trained: Trained,
    settings: Settings,
    steps_per_epoch: int,
    placement: Placement,
    objective: Objective,
    head: Sequence[str],
) -> list[Phase]:
    """The phases that settings describe, one after the other.

    Args:
      model: the definition that is trained.
      trained: it with its first variables.
      settings: which.
      steps_per_epoch: how many.
      placement: where states lie.
      objective: what is made small.
      head: the outermost modules that the first phase trains.

    Raises:
      SettingsError: a pattern matches nothing, or nothing is left to train.
    """
    params = trained.variables["params"]
    try:
        paths.check_patterns("freeze", settings.freeze, params)
        paths.check_patterns("freeze_norms", settings.freeze_norms, params)
    except ValueError as error:
        raise SettingsError(error) from error
    if settings.shard_params and not settings.sync_norms:
        raise SettingsError("sync_norms must be true where shard_params is, got false")
    head_steps = round(settings.head_epochs * steps_per_epoch)
    everything = paths.invert(settings.freeze)
    only_head = (*everything, *(f"!{name}" for name in params if name not in head))
    if not paths.split(params, everything)[0]:
        raise SettingsError(f"freeze leaves nothing to train, got {list(settings.freeze)}")
    if head_steps and not paths.split(params, only_head)[0]:
        raise SettingsError(
            f"head_epochs must be 0 where freeze has the classifier, got {settings.head_epochs:g}"
        )
    steps = max(1, round(settings.epochs * steps_per_epoch))
    schedule = make_schedule(settings, steps, steps_per_epoch)
    plans = [Plan(head_steps, head_steps + steps, everything, schedule, settings.freeze_norms)]
    if head_steps:
        constant = make_schedule(
            settings.replace(schedule="constant", warmup_epochs=0.0), head_steps, steps_per_epoch
        )
        # The norms in front of the classifier stay as they are while only that is trained.
        plans.insert(0, Plan(0, head_steps, only_head, constant, ("**",)))
    return [_make_phase(plan, model, trained, settings, placement, objective) for plan in plans]


def _make_phase(
    plan: Plan,
    model: Model,
    trained: Trained,
    settings: Settings,
    placement: Placement,
    objective: Objective,
) -> Phase:
    optimizer = make_optimizer(settings, model, plan.schedule, channels=trained.channels)
    average = settings.average_decay > 0
    shapes = jax.eval_shape(
        lambda variables: init_train_state(
            variables, optimizer, trainable=plan.trainable, average=average
        ),
        trained.variables,
    )
    step = make_train_step(
        model,
        optimizer,
        trainable=plan.trainable,
        objective=objective,
        freeze_norms=plan.freeze_norms,
        accumulate=settings.accumulate,
        average_decay=settings.average_decay if average else None,
        local_norms=None if settings.sync_norms else placement.mesh,
        shardings=placement.shardings(shapes),
    )
    return Phase(**vars(plan), optimizer=optimizer, step=step, placement=placement)
