"""One training of styles, interrupted or not."""

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Generator, Iterator
from typing import Any, NoReturn

import jax
import numpy as np
from PIL import Image

from zoo.data.augment import Augmentation, CenterCrop
from zoo.data.dataset import Dataset
from zoo.data.pipeline import load_batches
from zoo.inference.images import ImageError
from zoo.inference.preprocessing import Preprocessing
from zoo.runtime.prefetch import prefetch
from zoo.style.pixels import to_float
from zoo.style.settings import StyleSettings
from zoo.style.step import StyleTraining
from zoo.style.styles import Styles, load_styles
from zoo.training.checkpoints import Checkpoints
from zoo.training.interrupts import InterruptedTrainingError, Interrupts
from zoo.training.reporting.progress import Progress
from zoo.training.reporting.record import Record
from zoo.training.reporting.speed import Speed
from zoo.training.run import DivergenceError
from zoo.training.run_folder import RunFolder
from zoo.training.step import TrainState
from zoo.visualize.pictures import to_uint8

# Held-out photos by which the loss is judged, and those that a preview shows.
JUDGED, SHOWN = 12, 4
COLOR_JITTER = 0.3
FLIP = 0.5


@dataclasses.dataclass
class _Memory:
    """What a run remembers beside its state, to go on: JSON in each checkpoint.

    Args:
      step: of the state.
      seconds: that the run has taken.
      best: the lowest held-out loss, and the step it is of.
      worse: the evaluations since then.
    """

    step: int = 0
    seconds: float = 0.0
    best: dict[str, float] | None = None
    worse: int = 0


class StyleRun:
    """What `train` does, with all that it needs.

    Args:
      styles: what is trained, with the first variables.
      training: what is compiled for it.
      photos, held_out: the photos.
      settings: of the training.
      copies: whether it begins with steps of copying.
      workers: processes that decode photos.
      folder: of the run; None keeps nothing.
      verbose: shows the progress.
    """

    def __init__(
        self,
        styles: Styles,
        training: StyleTraining,
        photos: Dataset,
        held_out: Dataset,
        settings: StyleSettings,
        copies: bool,
        workers: int,
        folder: RunFolder | None,
        verbose: bool,
    ) -> None:
        self.styles, self.training, self.settings = styles, training, settings
        self.photos, self.workers, self.folder = photos, workers, folder
        self.total_steps = settings.count_steps(len(photos))
        self.copy_steps = settings.copy_steps if copies else 0
        size = settings.size
        zeros, ones = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        self.preprocessing = Preprocessing(size, size, "bilinear", zeros, ones)
        self.held_out = self._load_held_out(held_out)
        self.progress = Progress(self.total_steps, verbose=verbose)
        self.memory = _Memory()
        self.kept = styles
        self.checkpoints: Checkpoints | None = None
        self.record: Record | None = None

    def _load_held_out(self, photos: Dataset) -> np.ndarray:
        """[N, size, size, 3], uint8, of those that can be read."""
        crop, found, errors = CenterCrop(self.preprocessing), [], []
        for number in range(len(photos)):
            try:
                found.append(crop(photos.images[number]))
            except ImageError as error:
                errors.append(error)
            if len(found) == JUDGED:
                break
        if not found:
            raise errors[0]
        return np.stack(found)

    def train(self) -> Styles:
        """Trains from the newest state, or from the start, to the end."""
        with contextlib.ExitStack() as stack:
            if self.folder is not None:
                self.checkpoints = stack.enter_context(Checkpoints(self.folder.states))
            stack.enter_context(self.progress)
            state = self._begin()
            if self.folder is not None:
                record = Record(self.folder.metrics, self.memory.step)
                self.record = stack.enter_context(record)
            self._train(state)
        return self.kept

    def _begin(self) -> TrainState:
        """The newest state, or the first one."""
        first = self.training.begin(self.styles.variables["params"])
        if self.checkpoints is None:
            return first
        found = self.checkpoints.restore(lambda memory: first, self.progress.note)
        if found is None:
            return first
        state, memory = found
        self.memory = _Memory(**memory)
        self.progress.resume(self.memory.step)
        self.progress.note(f"going on from step {self.memory.step}")
        if self.folder is not None and self.folder.model.exists():
            self.kept = load_styles(self.folder.model)
        else:
            self._keep(state)
        return state

    def _train(self, state: TrainState) -> None:
        memory, settings = self.memory, self.settings
        batches = self._load()
        start = time.monotonic() - memory.seconds
        speed, compiled = Speed(settings.batch_size), set[bool]()
        with contextlib.closing(batches), Interrupts() as interrupts:
            while not self._is_done():
                with speed.waiting():
                    photos = next(batches)
                step = memory.step + 1
                copies = step <= self.copy_steps
                if step == self.copy_steps + 1 and self.copy_steps:
                    state = self.training.restart(state)
                    memory.best = None  # a network that copies is no measure
                first = copies not in compiled
                compiled.add(copies)
                with self.progress.compiling("the step") if first else contextlib.nullcontext():
                    state, metrics = self.training.step(state, photos, copies)
                    values = {name: float(value) for name, value in metrics.items()}
                memory.step, memory.seconds = step, time.monotonic() - start
                speed.count_step()
                self._note(values, speed)
                signal_number = interrupts.received(step)
                evaluates = step % settings.evaluate_steps == 0 or self._is_done()
                if evaluates:
                    self._evaluate(state)
                if evaluates or signal_number:
                    self._save(state)
                if signal_number:
                    self._stop(signal_number)
        if self.checkpoints is not None:
            self.checkpoints.wait()

    def _is_done(self) -> bool:
        settings, memory = self.settings, self.memory
        is_late = settings.minutes is not None and memory.seconds >= 60 * settings.minutes
        is_patient = not settings.patience or memory.worse < settings.patience
        is_complete = self.total_steps is not None and memory.step >= self.total_steps
        return is_complete or is_late or not is_patient

    def _load(self) -> Generator[Any]:
        """Batches of photos [N, size, size, 3], uint8, from the next step on, without end."""
        settings = self.settings
        augmentation = Augmentation(
            preprocessing=self.preprocessing,
            crop_scale=settings.crop_scale,
            flip=FLIP,
            color_jitter=COLOR_JITTER,
        )
        # Where a batch has more photos than there are, they come several times, each cropped anew.
        count = -(-settings.batch_size // len(self.photos))
        photos = self.photos.select(np.tile(np.arange(len(self.photos)), count))
        size = settings.size
        batches = load_batches(
            photos,
            augmentation,
            settings.batch_size,
            (size, size, 3),
            seed=settings.seed,
            first=self.memory.step,
            workers=self.workers,
        )

        def read() -> Iterator[Any]:
            unread: dict[int, str] = {}  # by the number of the photo
            with contextlib.closing(batches):
                for batch in batches:
                    numbers = batch.indices[~batch.read] % len(self.photos)
                    for number, message in zip(numbers.tolist(), batch.errors, strict=True):
                        if number not in unread:
                            self.progress.note(f"left out: {message}")
                        unread[number] = message
                    if len(unread) == len(self.photos):
                        raise ImageError(f"none of the photos can be read: {min(unread.values())}")
                    yield jax.device_put(batch.images)

        return prefetch(read())

    @property
    def _epoch(self) -> float:
        """How many epochs are done."""
        return self.memory.step * self.settings.batch_size / len(self.photos)

    def _note(self, values: dict[str, float], speed: Speed) -> None:
        memory = self.memory
        if not all(math.isfinite(value) for value in values.values()):
            raise DivergenceError(
                f"the training diverged in step {memory.step}: {values}; a lower rate may help"
            )
        if self.record is not None:
            self.record.write(memory.step, self._epoch, values)
        shown = {name: value for name, value in values.items() if name != "grad_norm"}
        self.progress.update(
            memory.step, int(self._epoch) + 1, shown, speed.images_per_second, speed.waiting_share
        )

    def _evaluate(self, state: TrainState) -> None:
        """Judges the averaged weights by the held-out photos, and keeps them if they are best."""
        memory, count = self.memory, len(self.styles.names)
        sums: dict[str, float] = {}
        for number, photo in itertools.product(range(count), self.held_out):
            weights = np.eye(count, dtype=np.float32)[number][None]
            losses = self.training.evaluate(state.average, photo[None], weights)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value) / count / len(self.held_out)
        self.progress.note(
            f"step {memory.step}, held-out photos: "
            + ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in sums.items())
        )
        if self.record is not None:
            held_out = {f"validation_{name}": value for name, value in sums.items()}
            self.record.write(memory.step, self._epoch, held_out)
        if (
            memory.step <= self.copy_steps
            or memory.best is None
            or sums["loss"] < memory.best["loss"]
        ):
            memory.best, memory.worse = {"loss": sums["loss"], "step": memory.step}, 0
            self._keep(state)
        else:
            memory.worse += 1
        if self.folder is not None:
            self._write_preview()

    def _keep(self, state: TrainState) -> None:
        assert state.average is not None
        extra = {**self.styles.extra, "step": self.memory.step, "held_out": self.memory.best}
        variables = jax.device_get(state.average)
        self.kept = dataclasses.replace(self.styles, variables=variables, extra=extra)
        if self.folder is not None:
            self.kept.save(self.folder.model, overwrite=True)

    def _write_preview(self) -> None:
        """Writes a grid: a row for each held-out photo, with all styles beside it."""
        assert self.folder is not None
        rows = []
        for photo in self.held_out[:SHOWN]:
            x = to_float(photo[None], self.kept.noise)
            weights = np.eye(len(self.styles.names), dtype=np.float32)
            pictures = [to_uint8(np.asarray(self.kept(x, each[None]))[0]) for each in weights]
            rows.append(np.concatenate([photo, *pictures], axis=1))
        folder = self.folder.path / "previews"
        folder.mkdir(exist_ok=True)
        image = Image.fromarray(np.concatenate(rows))
        path = folder / f"step-{self.memory.step:06}.png"
        beside = path.with_suffix(".new")
        image.save(beside, format="PNG")
        beside.replace(path)

    def _save(self, state: TrainState) -> None:
        if self.checkpoints is not None:
            self.checkpoints.save(state, dataclasses.asdict(self.memory))

    def _stop(self, signal_number: int) -> NoReturn:
        step = self.memory.step
        if self.checkpoints is not None:
            self.checkpoints.stop(step, signal_number)
        message = f"interrupted in step {step}; nothing is kept, as there is no folder"
        raise InterruptedTrainingError(message, signal_number)
