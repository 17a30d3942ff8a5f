"""Evaluates the detector that is being trained, on validation images of one size."""

import contextlib
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.data.dataset import DatasetError
from zoo.data.pipeline import load_batches
from zoo.detection.data.augment import DetectionResize, DetectionSample
from zoo.detection.data.dataset import DetectionDataset
from zoo.detection.evaluation.evaluate import DetectionScore, drop_background, score
from zoo.detection.evaluation.metrics import Found
from zoo.detection.models.detector import Detector, Predictions
from zoo.detection.trained import as_found
from zoo.inference.preprocessing import Preprocessing
from zoo.runtime.prefetch import prefetch
from zoo.training.devices import Placement
from zoo.training.processes import iterate_together, share
from zoo_kernels import jit

# (variables, images [N, H, W, C] uint8, sizes [N, 2]) → predictions.
Predict = Callable[..., Predictions]


@functools.lru_cache(maxsize=16)
def make_predict(model: Detector, preprocessing: Preprocessing, placement: Placement) -> Predict:
    """Compiles a detector's inference; the predictions are on all devices."""

    def predict(variables: Any, images: jax.Array, sizes: jax.Array) -> Predictions:
        x = preprocessing.normalize(images)
        sizes = sizes.astype(jnp.float32)
        outputs: Any = model.apply(variables, x, **model.apply_arguments(sizes))
        return model.predict(outputs, sizes)

    return jit(predict, out_shardings=placement.replicated)


def evaluate_variables(
    predict: Predict,
    variables: Any,
    images: DetectionDataset,
    resize: DetectionResize,
    placement: Placement,
    batch_size: int,
    workers: int,
    blank: DetectionSample,
    on_batch: Callable[[int], None] = lambda count: None,
) -> DetectionScore:
    """Evaluates variables on images of one size; see `DetectionTask.make_evaluate`.

    On several processes each has its part of the batches, and all get the whole result.
    """
    found: dict[int, Found] = {}
    errors: list[str] = []
    batches = load_batches(
        images,
        resize,
        batch_size,
        (resize.height, resize.width, 3),
        workers=workers,
        part=(jax.process_index(), jax.process_count()),
        blank=blank,
    )
    with contextlib.closing(batches):
        for batch in iterate_together(prefetch(batches)):
            errors += batch.errors
            sample: DetectionSample = batch.labels
            pixels, sizes, original, indices, read = placement.put_batch(
                (batch.images, sample.size, sample.original_size, batch.indices, batch.read)
            )
            predictions = jax.device_get(predict(variables, pixels, sizes))
            sizes, original, indices, read = jax.device_get(
                placement.replicate((sizes, original, indices, read))
            )
            for row in np.flatnonzero(read & (indices >= 0)):
                here = as_found(predictions, int(row), sizes[row], original[row])
                found[int(indices[row])] = drop_background(here)
            on_batch(int((indices >= 0).sum()))
    errors = list(itertools.chain(*share(errors)))
    if not found:
        raise DatasetError(f"none of the {len(images)} images can be read; {errors[0]}")
    return score(images, found, tuple(errors))
