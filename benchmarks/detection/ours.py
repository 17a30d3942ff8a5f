"""Work of `zoo.detection`, by XLA's layers or by native ones."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.detection.cases import (
    DETECT,
    MOMENTUM,
    NETWORK,
    RATE,
    STEP,
    Case,
    Summarize,
    Work,
    make_photos,
    make_training_batch,
    summarize_loss,
    summarize_nothing,
    summarize_scores,
)


def make_work(case: Case, weights: Mapping[str, np.ndarray]) -> tuple[Work, Summarize]:
    """(what is timed, what is compared of its result).

    Layers are native where they are compiled and not turned off.
    """
    import jax
    import jax.numpy as jnp

    from zoo_kernels import jit

    detector = build(case, weights)
    if case.work == STEP:
        return _make_step(case, detector)
    photos = make_photos(case.batch)
    if case.work == DETECT:
        detect = functools.partial(detector.detect, photos, threshold=0, batch_size=case.batch)
        return detect, lambda found: summarize_scores([each.score for each in found[0]])
    canvases = [detector.prepare(photo) for photo in photos]
    images = jnp.stack([canvas.pixels for canvas in canvases])
    sizes = jnp.asarray([canvas.size for canvas in canvases], jnp.float32)
    network = compile_network(detector)
    if case.work == NETWORK:
        return lambda: jax.block_until_ready(network(images, sizes)), summarize_nothing
    outputs = network(images, sizes)
    select = jit(detector.model.predict)
    return lambda: jax.block_until_ready(select(outputs, sizes)), summarize_nothing


def compile_network(detector: Any) -> Callable[..., Any]:
    """(images, sizes) → what the heads compute, by the layers that `detect` uses."""
    import jax

    from zoo.inference.native_layers import run_natively
    from zoo_kernels import jit

    def make_apply(model: Any) -> Callable[..., Any]:
        return lambda variables, x, sizes: model.apply(variables, x, **model.apply_arguments(sizes))

    sizes = jax.ShapeDtypeStruct((1, 2), np.float32)
    if (network := run_natively(detector, make_apply, sizes)) is not None:
        return network
    model, variables = detector.fused
    return functools.partial(jit(make_apply(model)), variables)


def build(case: Case, weights: Mapping[str, np.ndarray]) -> Any:
    """A trained detector of torchvision's state dict."""
    import jax

    from zoo.checkpoints.load import as_trained
    from zoo.models.base import find_model
    from zoo_pretrained.convert import convert, find_source

    entry = find_model(case.model)
    model = entry.constructor(**case.sides)
    source = find_source(entry.family, "torchvision")
    variables = convert(weights, source, model.variable_shapes())
    return as_trained(model, jax.tree.map(np.asarray, variables))


def _make_step(case: Case, detector: Any) -> tuple[Work, Summarize]:
    """A step of SGD with momentum, of all parameters."""
    import jax
    import optax

    from zoo.detection.data.augment import DetectionSample
    from zoo.detection.training.task import compute_loss
    from zoo.training import Settings, init_train_state, make_train_step
    from zoo_kernels import jit

    images, boxes, classes = make_training_batch(case)
    count, most = case.batch, Settings().max_boxes
    padded = np.zeros((count, most, 4), np.float32)
    labels = np.full((count, most), -1, np.int32)
    padded[:, : boxes.shape[1]], labels[:, : classes.shape[1]] = boxes, classes - 1
    sizes = np.full((count, 2), case.side, np.int32)
    samples = DetectionSample(np.zeros(count), padded, labels, sizes, sizes, np.zeros(count))
    optimizer = optax.sgd(RATE, MOMENTUM)
    train_step = make_train_step(detector.model, optimizer, objective=compute_loss)
    normalize = jit(detector.info.preprocessing.normalize)
    state = init_train_state(jax.device_put(detector.variables), optimizer)

    def step() -> float:
        nonlocal state
        state, metrics = train_step(state, normalize(images), samples)
        jax.block_until_ready(state)
        return float(metrics["loss"])

    return step, summarize_loss
