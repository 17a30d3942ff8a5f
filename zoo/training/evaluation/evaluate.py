"""Evaluates models on labelled images."""

import dataclasses
import functools
import itertools
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from zoo.checkpoints.load import ModelWithWeights, as_trained
from zoo.data.augment import CenterCrop
from zoo.data.dataset import Dataset, DatasetError
from zoo.data.load import load_evaluation
from zoo.data.matching import relabel
from zoo.data.pipeline import Batch, count_workers, load_batches
from zoo.inference.preprocessing import Preprocessing
from zoo.inference.trained import Trained
from zoo.models.base import Model
from zoo.runtime.prefetch import prefetch
from zoo.surgery.fuse import fuse
from zoo.training.devices import Placement, make_placement
from zoo.training.evaluation.metrics import Evaluation
from zoo.training.processes import iterate_together, share
from zoo_kernels import jit

# (variables, images [N, H, W, C] uint8) → probabilities [N, classes].
Predict = Callable[[Any, jax.Array], jax.Array]


def evaluate(
    model: ModelWithWeights | Sequence[ModelWithWeights],
    data: Any,
    *,
    batch_size: int = 32,
    size: int | None = None,
    limit: int | None = None,
    workers: int | None = None,
    on_batch: Callable[[int], None] = lambda count: None,
) -> Evaluation:
    """Evaluates a model on labelled images, with its own preprocessing.

        zoo.training.evaluate(zoo.trained("ResNet50"), "photos/").top1

    Args:
      model: what `zoo.trained` returns, a pair (model, variables) or a model's name. A list of them
        is evaluated as an ensemble, whose probabilities are the means of theirs.
      data: a folder of classes, or what else `zoo.data.load` takes; of two parts the validation
        images. Its classes are matched to the model's labels by their names or synsets.
      batch_size: images in a batch, over all devices.
      size: height and width of the images in pixels, in place of the model's own.
      limit: only so many of the images, drawn at random with a fixed seed.
      workers: processes that decode images; by default about half of the cores.
      on_batch: is told how many images each batch had.

    Returns:
      Accuracies and more, over the model's labels; images that cannot be read are left out and
      listed.

    Raises:
      DatasetError: the data cannot be read, or no class is one of the model's.
      ValueError: `batch_size` or `limit` is less than 1; or the models are none, have no
        classifier, or have not the same labels.
    """
    models = [as_trained(each) for each in (model if isinstance(model, list) else [model])]
    if not models:
        raise ValueError("at least one model is needed, got an empty list")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size!r}")
    for trained in models:
        if trained.labels != models[0].labels:
            raise ValueError(
                f"the models of an ensemble must have the same labels, but those of "
                f"{trained.info.weights!r} and {models[0].info.weights!r} differ"
            )
    dataset = select_images(data, models[0], limit)
    results = [
        _evaluate(trained, dataset, batch_size, size, workers, on_batch) for trained in models
    ]
    mean = np.mean([each.probabilities for each in results], axis=0)
    seconds = sum(each.seconds for each in results)
    return dataclasses.replace(results[0], probabilities=mean, seconds=seconds)


def select_images(data: Any, trained: Trained, limit: int | None = None) -> Dataset:
    """The images of `data` to evaluate on, with the model's classes; see `evaluate`."""
    trained.require_head()
    dataset = data if isinstance(data, Dataset) else load_evaluation(data)
    if dataset.classes != trained.labels:
        dataset, match = relabel(dataset, trained.info.labels)
        if left_out := match.describe():
            warnings.warn(f"{left_out}: these are left out", stacklevel=3)
    if limit is None or limit >= len(dataset):
        return dataset
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit!r}")
    chosen = np.random.default_rng(0).permutation(len(dataset))[:limit]
    return dataset.select(np.sort(chosen))


def _evaluate(
    trained: Trained,
    dataset: Dataset,
    batch_size: int,
    size: int | None,
    workers: int | None,
    on_batch: Callable[[int], None],
) -> Evaluation:
    placement = make_placement()
    preprocessing = trained.info.preprocessing
    preprocessing = preprocessing if size is None else preprocessing.resized(size)
    fused = trained if trained.model.fused else fuse(trained)
    predict = make_predict(fused.model, preprocessing, placement)
    count = placement.mesh.size
    batch_size = max(1, min(batch_size, len(dataset)) // count) * count
    batches = load_batches(
        dataset,
        CenterCrop(preprocessing),
        batch_size,
        image_shape(preprocessing),
        workers=count_workers(dataset) if workers is None else workers,
        part=(jax.process_index(), jax.process_count()),
    )
    variables = placement.put_state(fused.variables)
    return evaluate_batches(predict, variables, batches, dataset, placement, on_batch)


def image_shape(preprocessing: Preprocessing) -> tuple[int, int, int]:
    """The shape of an image for the model."""
    return (preprocessing.size, preprocessing.size, len(preprocessing.mean))


@functools.lru_cache(maxsize=16)
def make_predict(model: Model, preprocessing: Preprocessing, placement: Placement) -> Predict:
    """Compiles a model's inference; the probabilities are on all devices."""

    def predict(variables: Any, images: jax.Array) -> jax.Array:
        logits: Any = model.apply(variables, preprocessing.normalize(images))
        return jax.nn.softmax(logits)

    return jit(predict, out_shardings=placement.replicated)


def evaluate_batches(
    predict: Predict,
    variables: Any,
    batches: Iterable[Batch],
    dataset: Dataset,
    placement: Placement,
    on_batch: Callable[[int], None] = lambda count: None,
) -> Evaluation:
    """Evaluates on batches that go once through a data set; see `load_batches`.

    On several processes each has its part of the batches, and all get the whole result.
    """
    probabilities = np.full((len(dataset), len(dataset.classes)), np.nan, np.float32)
    read = np.zeros(len(dataset), bool)
    errors: list[str] = []
    # Time counts from the second batch on, as the first one is compiled; without one it is unknown.
    start, first, done = time.perf_counter(), 0, 0
    for batch in iterate_together(prefetch(batches)):
        errors += batch.errors
        images, indices, good = placement.put_batch((batch.images, batch.indices, batch.read))
        rows = np.asarray(predict(variables, images))
        indices, good = map(np.asarray, placement.replicate((indices, good)))
        probabilities[indices[good]] = rows[good]
        read[indices[good]] = True
        count = int((indices >= 0).sum())
        done += count
        if not first:
            start, first = time.perf_counter(), done
        on_batch(count)
    errors = list(itertools.chain(*share(errors)))
    if not read.any():
        raise DatasetError(f"none of the {len(dataset)} images can be read; {errors[0]}")
    seconds, timed = time.perf_counter() - start, done - first
    return Evaluation(
        classes=dataset.classes,
        labels=dataset.labels[read],
        probabilities=probabilities[read],
        names=tuple(dataset.name_of(int(index)) for index in np.flatnonzero(read)),
        indices=np.flatnonzero(read),
        skipped=tuple(errors),
        # As if the first batch had taken as long as the others.
        seconds=seconds * done / timed if timed else 0.0,
    )
