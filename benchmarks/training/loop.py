"""Times the steps of `zoo.training.fit` beside the compiled training step alone.

Both run in one process, in turn: after so many steps that `fit` asks for come as many bare ones, on
the batch that is there. Programs, memory and threads are therefore the same, and what `fit` takes
longer is its own: reading and normalising batches, the metrics, and the line that shows them.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from benchmarks.harness import interleaved
from benchmarks.training.photos import write_photos

CLASSES, PHOTO, PHOTOS = 10, (500, 375), 96
FIT, STEP = "ours, fit", "ours, step"


class Case(NamedTuple):
    """A model that is trained on photos, cropped and flipped at random.

    Args:
      model: its constructor's name.
      size: height and width of its input.
      batch: photos in a batch.
      workers: processes that decode files; 0 for photos that are arrays in memory, of its size.
      steps: of a turn.
    """

    model: str
    size: int
    batch: int
    workers: int
    steps: int

    @property
    def name(self) -> str:
        """What tables call it."""
        photos = f"files, {self.workers} worker" if self.workers else "arrays"
        return f"{self.model}, {self.size}x{self.size}, {photos}"


CASES = (
    Case("ResNet18", 32, 32, workers=0, steps=16),
    Case("MobileNetV2", 96, 16, workers=0, steps=8),
    Case("MobileNetV2", 224, 8, workers=1, steps=4),
)


class Turns:
    """A training step that is timed in turns: called by `fit`, and called without anything else.

    Args:
      step: (state, *batch) → (state, metrics).
      length: how many steps a turn has.
    """

    def __init__(self, step: Callable[..., Any], length: int) -> None:
        self._step, self._length, self._calls, self._start = step, length, 0, 0.0
        self.seconds: dict[str, list[float]] = {FIT: [], STEP: []}

    def __call__(self, state: Any, *batch: Any) -> Any:
        """Makes a step, and at the end of a turn as many more as it had, and one untimed before."""
        import jax

        state, metrics = self._step(state, *batch)
        self._calls += 1
        if self._calls % self._length:
            return state, metrics
        jax.block_until_ready(state)
        middle = time.perf_counter()
        # The batches that are read ahead are complete before the bare steps, which then run alone.
        time.sleep(interleaved.PAUSE_SECONDS)
        state, metrics = jax.block_until_ready(self._step(state, *batch))
        bare = time.perf_counter()
        for _ in range(self._length):
            state, metrics = self._step(state, *batch)
        jax.block_until_ready(state)
        end = time.perf_counter()
        if self._calls > 2 * self._length:  # the first turn compiles, and the second warms up
            self.seconds[FIT].append((middle - self._start) / self._length)
            self.seconds[STEP].append((end - bare) / self._length)
        self._start = time.perf_counter()
        return state, metrics


def measure_case(case: Case, rounds: int) -> dict[str, list[float]]:
    """The seconds of a step in `fit`, and alone, in each round."""
    import zoo
    from zoo.training import fit, make_train_step

    count = (rounds + 2) * case.steps * case.batch
    turns: list[Turns] = []

    def make_step(*arguments: Any, **options: Any) -> Turns:
        turns.append(Turns(make_train_step(*arguments, **options), case.steps))
        return turns[0]

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch("zoo.training.phases.make_train_step", make_step),
    ):
        photos = write_photos(Path(folder), PHOTO, PHOTOS)
        fit(
            getattr(zoo, case.model)(),
            make_splits(photos, case, count),
            epochs=1,
            batch_size=case.batch,
            size=case.size,
            rate=1e-4,
            crop_scale=0.25,
            flip=0.5,
            workers=case.workers,
            folder=Path(folder, "run"),
        )
    return turns[0].seconds


def make_splits(paths: list[str], case: Case, count: int) -> Any:
    """A data set of so many photos, the given ones over and over, as files or as small arrays."""
    from PIL import Image

    from zoo.data import Dataset, Splits

    images: Any = [paths[number % len(paths)] for number in range(count)]
    if not case.workers:
        arrays = []
        for path in paths:
            with Image.open(path) as photo:
                arrays.append(np.asarray(photo.resize((case.size, case.size))))
        images = np.stack(arrays)[np.arange(count) % len(paths)]
    classes = tuple(f"class {number}" for number in range(CLASSES))
    labels = np.arange(count) % len(paths) % CLASSES
    return Splits(Dataset(images=images, labels=labels, classes=classes), None)


def measure(
    cases: list[str], rounds: int, longest: float, command: Callable[..., list[str]]
) -> Iterator[tuple[dict[str, Any], dict[str, list[float]], dict[str, dict[str, str]]]]:
    """Each case's row, and by candidate the seconds of a step and the versions."""
    import jax

    for case in CASES:
        if case.name in cases:
            seconds = measure_case(case, rounds)
            row = {"case": case.name, "batch": case.batch}
            yield row, seconds, {name: {"jax": jax.__version__} for name in seconds}
