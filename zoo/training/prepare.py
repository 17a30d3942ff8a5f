"""Makes the model that is trained: fresh, or of trained weights, for the classes of the data."""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.checkpoints.load import ModelWithWeights, as_trained, make_info
from zoo.data.dataset import Dataset
from zoo.inference.images import ImageError
from zoo.inference.trained import Trained, make_labels
from zoo.models.base import Model
from zoo.surgery.adapt import adapt
from zoo.training.settings import Settings, SettingsError


def prepare_model(
    model: ModelWithWeights | Model,
    dataset: Dataset,
    settings: Settings,
    channels: int | None = None,
) -> Trained:
    """A model with its weights for the classes of a data set.

    Args:
      model: a definition such as `zoo.ResNet18()`, whose weights are drawn at random; or what
        `zoo.trained` returns, a pair (model, variables) or a model's name, whose head is kept if
        its labels are the data's classes, in their order, or have no names; otherwise it is fresh.
      dataset: whose classes they are.
      settings: `size` and `seed` count.
      channels: of the images, in place of the model's own. A definition has those of the images if
        these are arrays, and else 3.

    Raises:
      SettingsError: `size` is too small for the model, or `channels` is less than 1.
      ValueError: the model is fused, whose batch norms cannot be trained.
    """
    if channels is not None and not (isinstance(channels, int) and channels >= 1):
        raise SettingsError(f"channels must be an integer of at least 1, got {channels!r}")
    key = jax.random.key(settings.seed)
    if isinstance(model, Model):
        _check_trainable(model, settings.size)  # before its weights are drawn
        channels = _count_channels(dataset) if channels is None else channels
        trained = _initialize(model, dataset, channels, key)
    else:
        trained = as_trained(model)
        if channels not in (None, trained.channels):
            trained = adapt(trained, channels=channels)
        unnamed = trained.info.labels == make_labels(None, len(dataset.classes))
        if unnamed or trained.labels != dataset.classes or not trained.info.head:
            trained = _name_classes(trained, dataset.classes, unnamed, key)
    size = settings.size or trained.info.preprocessing.size
    _check_trainable(trained.model, size)
    preprocessing = trained.info.preprocessing.resized(size)
    info = trained.info.without_accuracy(preprocessing=preprocessing)
    return trained.replace(info=info)


def weigh_classes(dataset: Dataset, kind: str) -> Dataset:
    """The same images, weighted as the setting `class_weights` says."""
    if kind == "none":
        return dataset
    counts = dataset.count_classes()
    weights = len(dataset) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    own = np.ones(len(dataset)) if dataset.weights is None else dataset.weights
    return dataclasses.replace(dataset, weights=own * weights[dataset.labels])


def _check_trainable(model: Model, size: int | None) -> None:
    """Raises an error if a model cannot be trained at all, or not with images of this size."""
    if model.fused:
        raise ValueError(
            f"this {model.title} is fused: it has no batch norms left to train; "
            f"train the one that it was made of"
        )
    if size and size < model.min_size:
        raise SettingsError(f"size must be at least {model.min_size} for {model.title}, got {size}")


def _initialize(model: Model, dataset: Dataset, channels: int, key: jax.Array) -> Trained:
    model = model.clone(num_classes=len(dataset.classes))
    size = max(model.min_size, model.usual_size)
    images = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    variables: Any = jax.jit(model.init, static_argnums=1)(key, images)
    info = make_info(model, variables, {})
    labels = make_labels(dataset.classes, model.num_classes)
    return Trained(model, variables, dataclasses.replace(info, labels=labels))


def _name_classes(
    trained: Trained, classes: Sequence[str], unnamed: bool, key: jax.Array
) -> Trained:
    if not unnamed or not trained.info.head:
        return adapt(trained, labels=classes, key=key)
    labels = make_labels(classes, len(classes))
    return trained.replace(info=dataclasses.replace(trained.info, labels=labels))


def _count_channels(dataset: Dataset) -> int:
    """The channels of images that are arrays, by the first that can be read; 3 for others."""
    for number in range(len(dataset)):
        with contextlib.suppress(ImageError):
            image: Any = dataset.images[number]
            shape: tuple[int, ...] = np.shape(image) if hasattr(image, "__array__") else ()
            return 1 if len(shape) == 2 else shape[2] if len(shape) == 3 else 3
    return 3
