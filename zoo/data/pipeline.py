"""Batches of a data set, decoded and changed by worker processes of grain."""

import contextlib
import dataclasses
import functools
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.data.dataset import Dataset
from zoo.inference.images import ImageError, ImageSource
from zoo.runtime.extras import require
from zoo.runtime.memory import keep_memory
from zoo_pretrained.temporary import temporary_folder

# An image → [size, size, C], uint8; the generator decides what is random.
Transform = Callable[[ImageSource, np.random.Generator], np.ndarray]

MAX_WORKERS = 16
BATCHES_AHEAD = 2  # of each worker


class Batch(NamedTuple):
    """Images of one size, with labels.

    Args:
      images: [N, size, size, C], uint8.
      labels: class numbers [N].
      weights: of the images in the loss [N]; 0 for one that could not be read, and for padding.
      indices: which of the data set's images these are [N]; −1 for padding.
      read: whether a row is an image that could be read [N].
      errors: a message for each image that could not be read.
    """

    images: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    indices: np.ndarray
    read: np.ndarray
    errors: tuple[str, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        """Sends the images of a worker as bytes: as an array they take ten times as long."""
        return _receive, (self.images.shape, self.images.tobytes(), *self[1:])


def _receive(shape: tuple[int, ...], images: bytes, *rest: Any) -> Batch:
    return Batch(np.frombuffer(images, np.uint8).reshape(shape), *rest)


class _Loaded(NamedTuple):
    pixels: np.ndarray | None
    label: int
    weight: float
    number: int
    error: str


@dataclasses.dataclass(frozen=True)
class _Load:
    """The number of an image, or a larger one for padding → what a batch holds of it."""

    dataset: Dataset | Path
    transform: Transform

    def __call__(self, index: int, random: np.random.Generator) -> _Loaded:
        dataset = self.dataset
        dataset = dataset if isinstance(dataset, Dataset) else _read_stored(dataset)
        if index >= len(dataset):
            return _Loaded(None, 0, 0.0, -1, "")
        weight = 1.0 if dataset.weights is None else float(dataset.weights[index])
        label = int(dataset.labels[index])
        try:
            pixels = self.transform(dataset.images[index], random)
        except ImageError as error:
            name = dataset.name_of(index)
            message = str(error) if name in str(error) else f"{name}: {error}"
            return _Loaded(None, label, 0.0, int(index), message)
        return _Loaded(pixels, label, weight, int(index), "")


def _stack(shape: tuple[int, ...], loaded: Sequence[_Loaded]) -> Batch:
    """A batch; in place of what could not be read it has other images, with weight 0.

    These are copies of the batch's images rather than black, for the sake of batch statistics.
    """
    read = [item.pixels for item in loaded if item.pixels is not None] or [
        np.zeros(shape, np.uint8)
    ]
    pixels = [
        read[number % len(read)] if item.pixels is None else item.pixels
        for number, item in enumerate(loaded)
    ]
    return Batch(
        np.stack(pixels),
        np.array([item.label for item in loaded], np.int32),
        np.array([item.weight for item in loaded], np.float32),
        np.array([item.number for item in loaded], np.int32),
        np.array([item.pixels is not None for item in loaded]),
        tuple(item.error for item in loaded if item.error),
    )


@dataclasses.dataclass(frozen=True)
class _Stack:
    shape: tuple[int, ...]

    def __call__(self, loaded: Sequence[_Loaded]) -> Batch:
        return _stack(self.shape, loaded)


def count_workers(dataset: Dataset) -> int:
    """How many worker processes suit a data set: none where the images are arrays in memory.

    Nor where the program has no file that workers could import, as when it comes from a pipe.
    """
    program = getattr(sys.modules["__main__"], "__file__", None)
    if isinstance(dataset.images, np.ndarray) or (program and not Path(program).exists()):
        return 0
    return min(MAX_WORKERS, max(1, (os.cpu_count() or 1) // 2))


def load_batches(
    dataset: Dataset,
    transform: Transform,
    batch_size: int,
    shape: tuple[int, int, int],
    *,
    seed: int | None = None,
    first: int = 0,
    workers: int = 0,
    part: tuple[int, int] = (0, 1),
) -> Generator[Batch]:
    """Batches of a data set: shuffled without end for training, or once in order.

    Which images a batch has, and what is drawn for each, depends on the seed and the batch's number
    alone, and not on the number of workers or of parts.

    Args:
      dataset: with at least one image.
      transform: makes an image's pixels; pickled for the workers.
      batch_size: images in a batch over all parts.
      shape: of what `transform` makes.
      seed: shuffles, anew in each epoch, and repeats without end; an epoch has as many whole
        batches as there are. None goes through the images once, in order, and pads the last batch.
      first: the number of the first batch.
      workers: the number of processes; 0 reads in threads of this one.
      part: (k, n): of each batch only the k-th of n equal parts, in order, for n processes.

    Raises:
      ValueError: the parts do not divide the batch, or there are too few images for one to train.
      MissingExtraError: grain is not installed.
      RuntimeError: see `check_process`.
    """
    number, count = part
    if batch_size % count:
        raise ValueError(f"batch_size must be a multiple of the {count} parts, got {batch_size}")
    if seed is not None and batch_size > len(dataset):
        raise ValueError(f"batch_size must be at most {len(dataset)}, all images, got {batch_size}")
    check_process()
    grain, flags = require("grain", "train"), require("absl.flags", "train")
    if workers and not flags.FLAGS.is_parsed():  # grain's program would be absl's
        flags.FLAGS.mark_as_parsed()
    padding = -len(dataset) % batch_size
    if seed is None:
        indices = grain.MapDataset.range(len(dataset) + padding).seed(0)
    else:
        whole = len(dataset) // batch_size * batch_size
        indices = grain.MapDataset.range(len(dataset)).seed(seed).shuffle()[:whole].repeat()
    with _store(dataset) if workers else contextlib.nullcontext(dataset) as stored:
        batches = indices.random_map(_Load(stored, transform)).batch(
            batch_size // count, batch_fn=_Stack(shape)
        )
        iterator = _iterate(grain, batches[first * count + number :: count], workers)
        with contextlib.closing(iterator):
            yield from iterator


@contextlib.contextmanager
def _store(dataset: Dataset) -> Iterator[Path]:
    """A file of a data set, which workers read.

    Would they get it by the pipe that they are started through, this process would wait without end
    for one that dies before it has read all.
    """
    cloudpickle = require("cloudpickle", "train")  # as grain's: with what a notebook defines
    with temporary_folder(Path(tempfile.gettempdir(), "zoo-dataset")) as folder:
        path = folder / "dataset"
        path.write_bytes(cloudpickle.dumps(dataset))
        yield path


@functools.lru_cache(maxsize=1)
def _read_stored(path: Path) -> Dataset:
    dataset: Dataset = pickle.loads(path.read_bytes())
    return dataset


def _iterate(grain: Any, batches: Any, workers: int) -> Any:
    threads = 1 if workers else min(8, os.cpu_count() or 1)
    reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
    dataset = batches.to_iter_dataset(reading)
    # Through pipes, as fast as through shared memory, which grain leaves behind when it is stopped.
    sending = grain.experimental.DatasetOptions(min_shm_size=1 << 62)
    dataset = grain.experimental.WithOptionsIterDataset(dataset, sending)
    if workers:
        options = grain.multiprocessing.MultiprocessingOptions(workers, BATCHES_AHEAD)
        dataset = dataset.mp_prefetch(options, _start_worker)
    return iter(dataset)


def _start_worker(number: int, count: int) -> None:
    """Prepares a worker, which ends with its parent, however that ends, and leaves Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_memory()  # a tenth of the time would go into clearing pages for each photo anew
    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel

        def follow() -> None:
            multiprocessing.connection.wait([sentinel])
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


def check_process() -> None:
    """Raises RuntimeError in a worker that still imports the script which starts it.

    What such a script calls, outside of its `if __name__ == "__main__":`, each worker would call.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(
            "a worker process imports the script that starts it, which would start workers in "
            "turn: put the calls of the script under  if __name__ == '__main__':"
        )
