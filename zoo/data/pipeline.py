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
from typing import Any, NamedTuple, Protocol

import numpy as np

from zoo.inference.images import ImageError
from zoo.runtime.extras import require
from zoo.runtime.memory import keep_memory
from zoo_pretrained.temporary import temporary_folder

# An image, or what else a data set's `load` gives it → [size, size, C], uint8; the generator, which
# comes last, decides what is random.
Transform = Callable[..., Any]

MAX_WORKERS = 16
BATCHES_AHEAD = 2  # of each worker


class LabelledImages(Protocol):
    """A data set that batches are made of: a `Dataset`, or a `DetectionDataset`."""

    @property
    def weights(self) -> Any:
        """Of the images in the loss [N], or None."""

    def __len__(self) -> int: ...

    def load(
        self, index: int, transform: Transform, random: np.random.Generator
    ) -> tuple[np.ndarray, Any]:
        """The pixels that a transform makes of an image, and its label: a number or arrays."""

    def name_of(self, index: int) -> str:
        """What messages call an image."""


class Batch(NamedTuple):
    """Images of one size, with labels.

    Args:
      images: [N, size, size, C], uint8.
      labels: class numbers [N], or arrays of N rows.
      weights: of the images in the loss [N]; 0 for one that could not be read, and for padding.
      indices: which of the data set's images these are [N]; −1 for padding.
      read: whether a row is an image that could be read [N].
      errors: a message for each image that could not be read.
    """

    images: np.ndarray
    labels: Any
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
    label: Any
    weight: float
    number: int
    error: str


@dataclasses.dataclass(frozen=True)
class _Load:
    """The number of an image, or a larger one for padding → what a batch holds of it."""

    dataset: LabelledImages | Path
    transform: Transform

    def __call__(self, index: int, random: np.random.Generator) -> _Loaded:
        dataset = self.dataset
        dataset = _read_stored(dataset) if isinstance(dataset, Path) else dataset
        if index >= len(dataset):
            return _Loaded(None, None, 0.0, -1, "")
        weight = 1.0 if dataset.weights is None else float(dataset.weights[index])
        try:
            pixels, label = dataset.load(index, self.transform, random)
        except ImageError as error:
            name = dataset.name_of(index)
            message = str(error) if name in str(error) else f"{name}: {error}"
            return _Loaded(None, None, 0.0, int(index), message)
        return _Loaded(pixels, label, weight, int(index), "")


def _stack(shape: tuple[int, ...], blank: Any, loaded: Sequence[_Loaded]) -> Batch:
    """A batch; in place of what could not be read it has other images, with weight 0.

    These are copies of the batch's images rather than black, for the sake of batch statistics.
    """
    read = [(item.pixels, item.label) for item in loaded if item.pixels is not None]
    read = read or [(np.zeros(shape, np.uint8), blank)]
    pixels, labels = [], []
    for place, item in enumerate(loaded):
        copied, label = read[place % len(read)]
        pixels.append(copied if item.pixels is None else item.pixels)
        known = item.label if item.pixels is not None else label
        labels.append(blank if item.number < 0 else known)  # of padding
    return Batch(
        np.stack(pixels),
        _stack_labels(labels),
        np.array([item.weight for item in loaded], np.float32),
        np.array([item.number for item in loaded], np.int32),
        np.array([item.pixels is not None for item in loaded]),
        tuple(item.error for item in loaded if item.error),
    )


def _stack_labels(labels: Sequence[Any]) -> Any:
    """Class numbers [N], or a tuple of arrays of N rows."""
    if isinstance(labels[0], tuple):
        return type(labels[0])(*map(np.stack, zip(*labels, strict=True)))
    return np.array(labels, np.int32)


@dataclasses.dataclass(frozen=True)
class _Stack:
    shape: tuple[int, ...]
    blank: Any

    def __call__(self, loaded: Sequence[_Loaded]) -> Batch:
        return _stack(self.shape, self.blank, loaded)


def count_workers(dataset: Any) -> int:
    """How many worker processes suit a data set: none where the images are arrays in memory.

    Nor where the program has no file that workers could import, as when it comes from a pipe.
    """
    program = getattr(sys.modules["__main__"], "__file__", None)
    images = dataset.images
    in_memory = isinstance(images, np.ndarray) or (images and isinstance(images[0], np.ndarray))
    if in_memory or (program and not Path(program).exists()):
        return 0
    return min(MAX_WORKERS, max(1, (os.cpu_count() or 1) // 2))


def load_batches(
    dataset: LabelledImages,
    transform: Transform,
    batch_size: int,
    shape: tuple[int, int, int],
    *,
    seed: int | None = None,
    first: int = 0,
    workers: int = 0,
    part: tuple[int, int] = (0, 1),
    blank: Any = 0,
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
      blank: the label of padding.

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
            batch_size // count, batch_fn=_Stack(shape, blank)
        )
        iterator = _iterate(grain, batches[first * count + number :: count], workers)
        with contextlib.closing(iterator):
            yield from iterator


@contextlib.contextmanager
def _store(dataset: LabelledImages) -> Iterator[Path]:
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
def _read_stored(path: Path) -> LabelledImages:
    dataset: LabelledImages = pickle.loads(path.read_bytes())
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
