"""One run of a training: on one device or many, interrupted or not."""

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import jax
import numpy as np

from zoo.data.dataset import DatasetError
from zoo.data.pipeline import Batch, count_workers, load_batches
from zoo.inference.trained import Trained
from zoo.runtime.prefetch import prefetch
from zoo.training.checkpoints import Checkpoints
from zoo.training.devices import make_placement
from zoo.training.interrupts import InterruptedTrainingError, Interrupts
from zoo.training.optimizers import scale_rate
from zoo.training.phases import Phase, make_phases
from zoo.training.processes import is_first, share, together
from zoo.training.reporting.progress import Progress
from zoo.training.reporting.record import Record
from zoo.training.reporting.speed import Speed
from zoo.training.run_folder import RunFolder
from zoo.training.selection import Selection
from zoo.training.settings import Settings, SettingsError
from zoo.training.step import TrainState, init_train_state
from zoo.training.task import Splits, Task

# A run records so many lines in an epoch.
LINES_PER_EPOCH = 20
# So many unreadable images are no reason to stop, however few images there are.
MIN_SKIPPED = 10


class DivergenceError(FloatingPointError):
    """The loss or its gradient is no longer a finite number; the message names the step."""


@dataclasses.dataclass
class _Memory:
    """What a run remembers beside its state, to go on: JSON in each checkpoint.

    Args:
      step: of the state.
      steps, sums: the number of steps since the last evaluation, and sums of metrics over them.
      skipped: messages about images that could not be read.
      best: metrics, rank and step of the best evaluation.
      least_cost, plateau_start, plateau_factor: for the schedule "plateau".
    """

    step: int = 0
    steps: int = 0
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    skipped: list[str] = dataclasses.field(default_factory=list)
    best: dict[str, Any] | None = None
    least_cost: float = math.inf
    plateau_start: int = 0
    plateau_factor: float = 1.0


class Run:
    """What `fit` does, with all that it needs."""

    def __init__(
        self,
        task: Task,
        start: Trained,
        splits: Splits,
        settings: Settings,
        workers: int | None,
        folder: RunFolder | None,
        verbose: bool,
    ) -> None:
        self.task, self.start, self.settings, self.folder = task, start, settings, folder
        self.images = task.weigh(splits.train, settings)
        self.transform = task.make_transform(start, settings)
        self.placement = make_placement(settings.shard_params)
        self.batch_size = fit_batch_size(settings, len(self.images), self.placement.mesh.size)
        self.steps_per_epoch = len(self.images) // self.batch_size
        self.workers = count_workers(self.images) if workers is None else workers
        model = start.model.clone(dtype=settings.dtype, remat=settings.remat)
        self.phases = make_phases(
            model,
            start,
            settings,
            self.steps_per_epoch,
            self.placement,
            task.make_objective(settings),
            task.find_head(model, start.variables["params"]),
        )
        self.total_steps = self.phases[-1].last_step
        self.prepare = task.make_prepare(start, settings)
        evaluate = None
        if splits.val is not None:
            evaluate = task.make_evaluate(
                model, start, splits.val, settings, self.placement, self.batch_size, self.workers
            )
        self.selection = Selection(start, splits, settings, task, evaluate, self.placement, folder)
        self.progress = Progress(self.total_steps, verbose=verbose and is_first())
        self.memory = _Memory()
        self.unread: list[str] = []  # messages that the other processes do not know yet
        self.failure: Exception | None = None  # which they do not know yet, either
        self.signal_number, self.is_due = 0, 0  # as all processes agreed in the newest step
        self.saved = time.monotonic()
        self.checkpoints: Checkpoints | None = None
        self.record: Record | None = None

    def train(self, tensorboard: bool) -> Trained:
        """Trains from the newest state, or from the start, to the end."""
        with contextlib.ExitStack() as stack:
            if self.folder is not None:
                self.checkpoints = stack.enter_context(Checkpoints(self.folder.states))
            stack.enter_context(self.progress)
            state = self._begin()
            with together():
                if self.folder is not None and is_first():
                    events = self.folder.tensorboard if tensorboard else None
                    record = Record(self.folder.metrics, self.memory.step, events)
                    self.record = stack.enter_context(record)
            self._train(state)
            result = self.selection.result()
            if self.folder is not None:
                self.selection.write_report(self.folder, result)
            return result

    def _begin(self) -> TrainState:
        """The newest state, or the first one."""

        def make_state(step: int) -> TrainState:
            """The first state, but with the optimizer of the phase that a later one is of."""
            phase = next(phase for phase in self.phases if step <= phase.last_step)
            state = init_train_state(
                self.start.variables,
                phase.optimizer,
                jax.random.key(self.settings.seed),
                trainable=phase.trainable,
                average=self.settings.average_decay > 0,
            )
            return self.placement.put_state(state)

        found, note = None, self.progress.note
        if self.checkpoints is not None:
            found = self.checkpoints.restore(lambda memory: make_state(memory["step"]), note)
        if found is None:
            return make_state(0)
        state, memory = found
        self.memory = _Memory(**memory)
        self.progress.resume(self.memory.step)
        is_complete = self.memory.step == self.total_steps
        note("this run is complete" if is_complete else f"going on from step {self.memory.step}")
        return state

    def _train(self, state: TrainState) -> None:
        steps_left = self.total_steps - self.memory.step
        batches = load_batches(
            self.images,
            self.transform,
            self.batch_size,
            self.task.find_image_shape(self.start),
            seed=self.settings.seed,
            first=self.memory.step,
            workers=self.workers,
            part=(jax.process_index(), jax.process_count()),
            blank=self.task.find_blank(self.start, self.settings),
        )
        on_device = prefetch(map(self._put, itertools.islice(batches, steps_left)))
        with contextlib.closing(batches), contextlib.closing(on_device), Interrupts() as interrupts:
            self.saved = time.monotonic()
            for phase in self.phases:
                if self.memory.step < phase.last_step:
                    state = self._train_phase(phase, state, on_device, interrupts)
        if self.checkpoints is not None:
            self.checkpoints.wait()

    def _put(self, batch: Batch) -> tuple[Any, tuple[str, ...]]:
        arrays = self.placement.put_batch((batch.images, batch.labels, batch.weights))
        return arrays, batch.errors

    def _train_phase(
        self, phase: Phase, state: TrainState, batches: Iterator[Any], interrupts: Interrupts
    ) -> TrainState:
        interval = max(1, round(self.settings.evaluate_epochs * self.steps_per_epoch))
        first_step = self.memory.step + 1
        if self.memory.step == phase.first_step:
            state = phase.begin(state)
        speed, pending, batch = Speed(self.batch_size), None, None
        for step in range(first_step, phase.last_step + 1):
            with speed.waiting():
                batch, errors = self._next(batches, batch)
            self.unread += errors
            arrays = self.prepare(*batch, np.int32(step - 1))
            asked = self._ask(interrupts, step)
            if step == first_step:
                with self.progress.compiling("the training step"):
                    state, metrics = jax.block_until_ready(phase.step(state, *arrays))
            else:
                state, metrics = phase.step(state, *arrays)
            if pending is not None:  # of the step before, while the device computes this one
                self._note(phase, step - 1, pending, speed)
            pending = {**metrics, "asked": asked}
            evaluates = step % interval == 0 or step == self.total_steps
            if self.signal_number or self.is_due or evaluates or step == phase.last_step:
                self._note(phase, step, pending, speed)
                pending = None
                self._check_finite(state)
                if evaluates:
                    state = self._evaluate(phase, state)
                self._save(state)
                speed = Speed(self.batch_size)
            if self.signal_number:
                self._stop(self.signal_number)
        return state

    def _next(self, batches: Iterator[Any], last: Any) -> tuple[Any, Sequence[str]]:
        """The next batch; where it cannot be had, the last one, until all processes know why."""
        if last is None:
            with together():
                return next(batches)
        if self.failure is None:  # afterwards there are none, which would hide why
            try:
                return next(batches)
            except Exception as error:
                self.failure = error
        return last, ()

    def _ask(self, interrupts: Interrupts, step: int) -> Any:
        """What a process asks all of them to do; `_note` reads it with the step's metrics."""
        is_due = time.monotonic() - self.saved > 60 * self.settings.checkpoint_minutes
        failed = self.failure is not None
        return self.placement.largest([interrupts.received(step), is_due, len(self.unread), failed])

    def _skip(self) -> None:
        """Reports images that could not be read; DatasetError if they are too many."""
        skipped, unread, self.unread = self.memory.skipped, self.unread, []
        for error in itertools.chain(*share(unread)):
            if error not in skipped:
                skipped.append(error)
                self.progress.note(f"skipped: {error}")
        limit = max(MIN_SKIPPED, self.settings.max_skipped * len(self.images))
        if len(skipped) > limit:
            raise DatasetError(
                f"{len(skipped)} of {len(self.images)} images cannot be read, and max_skipped is "
                f"{self.settings.max_skipped:g}; the last one: {skipped[-1]}"
            )

    def _note(self, phase: Phase, step: int, metrics: Any, speed: Speed) -> None:
        """Takes note of a step's metrics; DivergenceError if they are not finite."""
        values = jax.device_get(metrics)
        self.signal_number, self.is_due, unread, failed = map(int, values.pop("asked"))
        if unread:
            self._skip()
        if failed:
            with together():
                if self.failure is not None:
                    raise self.failure
        values = {name: float(value) for name, value in values.items()}
        infinite = [f"{name} {value}" for name, value in values.items() if not math.isfinite(value)]
        if infinite:
            raise DivergenceError(self._describe_divergence(step, ", ".join(infinite)))
        memory = self.memory
        memory.step, memory.steps = step, memory.steps + 1
        for name in self.task.shown:
            memory.sums[name] = memory.sums.get(name, 0.0) + values[name]
        speed.count_step()
        line = {**values, "learning_rate": phase.rate(step) * memory.plateau_factor}
        if step % max(1, self.steps_per_epoch // LINES_PER_EPOCH) == 0:
            self._record(line)
        shown = {name: line[name] for name in (*self.task.shown, "learning_rate")}
        self.progress.update(
            step, self._epoch(), shown, speed.images_per_second, speed.waiting_share
        )

    def _check_finite(self, state: TrainState) -> None:
        """Raises DivergenceError if a state that is to be kept is not finite.

        The loss may be finite all the same: a batch norm's running variance overflows first.
        """
        if not self.placement.is_finite((state.variables, state.optimizer, state.average)):
            message = self._describe_divergence(self.memory.step, "its weights are not finite")
            raise DivergenceError(message)

    def _describe_divergence(self, step: int, bad: str) -> str:
        kept = ""
        if self.checkpoints is not None and (newest := self.checkpoints.newest()) is not None:
            kept = f"; the state of step {newest} is kept"
        return (
            f"the training diverged in step {step}: {bad}{kept}. A lower rate, a longer warm-up or "
            f"clip_norm may help"
        )

    def _epoch(self) -> int:
        """The number of the epoch of the newest step, from 1."""
        return max(0, self.memory.step - 1) // self.steps_per_epoch + 1

    def _record(self, line: Mapping[str, Any]) -> None:
        if self.record is not None:
            self.record.write(self.memory.step, self.memory.step / self.steps_per_epoch, line)

    def _evaluate(self, phase: Phase, state: TrainState) -> TrainState:
        """Evaluates on the validation images, and keeps the model if it is the best so far."""
        memory = self.memory
        count = max(memory.steps, 1)
        means = {name: total / count for name, total in memory.sums.items()}
        memory.steps, memory.sums = 0, {}
        variables = _find_variables(state)
        if self.selection.evaluate is None:
            self.progress.epoch_end(self._epoch(), means)
            self.selection.keep(variables, {"step": memory.step})
            return state
        score = self.selection.evaluate(variables)
        validation = dict(score.metrics)
        self.progress.epoch_end(self._epoch(), means, validation)
        named = {f"validation_{name}": value for name, value in validation.items()}
        self._record({f"epoch_{name}": value for name, value in means.items()} | named)
        if memory.best is None or tuple(memory.best["rank"]) < score.rank:
            facts = {**validation, "step": memory.step}
            memory.best = {**facts, "rank": list(score.rank)}
            self.selection.keep(variables, facts, score)
        if self.settings.schedule != "plateau" or phase is not self.phases[-1]:
            return state
        return self._watch_plateau(state, score.cost)

    def _watch_plateau(self, state: TrainState, cost: float) -> TrainState:
        """Lowers the rate where the validation images gain nothing for `step_epochs`."""
        memory, settings = self.memory, self.settings
        if cost < memory.least_cost:
            memory.least_cost, memory.plateau_start = cost, memory.step
        elif memory.step - memory.plateau_start >= settings.step_epochs * self.steps_per_epoch:
            memory.plateau_start = memory.step
            memory.plateau_factor *= settings.step_factor
            optimizer = scale_rate(state.optimizer, memory.plateau_factor)
            optimizer = jax.device_put(optimizer, self.placement.shardings(optimizer))
            return state._replace(optimizer=optimizer)
        return state

    def _save(self, state: TrainState) -> None:
        if self.checkpoints is not None:
            self.checkpoints.save(state, dataclasses.asdict(self.memory))
        self.saved, self.is_due = time.monotonic(), 0

    def _stop(self, signal_number: int) -> NoReturn:
        step = self.memory.step
        if self.checkpoints is not None:
            self.checkpoints.stop(step, signal_number)
        message = f"interrupted in step {step}; nothing is kept, as there is no folder"
        raise InterruptedTrainingError(message, signal_number)


def fit_batch_size(settings: Settings, images: int, devices: int) -> int:
    """The setting's batch size, or less where there are fewer images.

    Raises:
      SettingsError: the devices and the parts that are accumulated do not divide it.
      DatasetError: there are too few images for one batch.
    """
    parts = devices * settings.accumulate
    if settings.batch_size % parts:
        raise SettingsError(
            f"batch_size must be a multiple of {parts} (devices times accumulate), "
            f"got {settings.batch_size}"
        )
    if images < parts:
        raise DatasetError(f"{images} training images are fewer than {parts}, one for each device")
    return min(settings.batch_size, images // parts * parts)


def _find_variables(state: TrainState) -> Any:
    """What is evaluated and kept: the average, if there is one."""
    return state.variables if state.average is None else state.average
