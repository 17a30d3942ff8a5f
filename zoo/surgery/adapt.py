"""Trained weights for other classes and other images."""

import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from zoo.checkpoints.load import ModelWithWeights, as_trained
from zoo.checkpoints.validate import check_arrays, model_shapes
from zoo.inference.trained import Trained, make_labels, make_trained
from zoo.models.base import Model
from zoo_pretrained.checkpoint import flatten_variables, unflatten_variables
from zoo_pretrained.metadata import check_labels


def adapt(
    model: ModelWithWeights,
    *,
    labels: Sequence[str] | None = None,
    num_classes: int | None = None,
    channels: int | None = None,
    key: jax.Array | None = None,
) -> Trained:
    """A model with its weights for other classes, or for another number of image channels.

    Args:
      model: what `zoo.trained` returns, a pair (model, variables), or a model's name.
      labels: the names of the new classes, in the order of the logits; a detector's first is the
        background.
      num_classes: how many new classes there are, where they have no names. Either gives the model
        a fresh head; weights without a classifier get the whole classifier. None keeps the head.
      channels: the new number of image channels. For one, the first convolution's kernels are
        summed over their channels, so that a grey image gives what it gave as three equal channels.
        For more, the old channels are repeated in turn and scaled by old / new, so that activations
        keep their size. None keeps the first convolution. The preprocessing follows.
      key: a random key for the fresh head; `jax.random.key(0)` by default.

    Returns:
      A `Trained`, which remembers everything else, and unpacks as (model, variables). Arrays that
      do not change are the same objects.

    Raises:
      ValueError: a number below 1, labels that are none or not as many as `num_classes`, or
        variables that do not fit the model.
      TypeError: `model` has no variables.
    """
    old = as_trained(model)
    labels = None if labels is None else check_labels(labels)
    num_classes = _count_classes(labels, num_classes)
    channels = _validate_count("channels", channels)
    _validate(old)
    arrays = dict(flatten_variables(old.variables))
    new, info = old.model, old.info
    if num_classes is not None:
        if new.is_detector and num_classes < 2:
            raise ValueError(
                f"a {new.title} needs at least 2 classes, of which the first is the background, "
                f"got {num_classes}"
            )
        new = old.model.clone(num_classes=num_classes)
        key = jax.random.key(0) if key is None else key
        arrays |= _draw_heads(old, new, arrays, key)
        info = info.without_accuracy(labels=make_labels(labels, num_classes), head=True)
    if channels is not None and channels != old.channels:
        first = f"params/{old.model.input_conv}/kernel"
        if first not in arrays:
            raise ValueError(f"the first convolution of a {new.title} takes no other channels")
        arrays[first] = _change_channels(arrays[first], channels)
        preprocessing = info.preprocessing.for_channels(channels)
        info = info.without_accuracy(preprocessing=preprocessing)
    return make_trained(new, unflatten_variables(arrays), info)


def _count_classes(labels: Sequence[str] | None, num_classes: Any) -> int | None:
    count = _validate_count("num_classes", num_classes)
    if labels is None:
        return count
    if count not in (None, len(labels)):
        raise ValueError(f"num_classes is {count}, but there are {len(labels)} labels")
    return len(labels)


def _validate_count(name: str, value: Any) -> int | None:
    if value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    return number


def _validate(given: Trained) -> None:
    """Raises ValueError unless the variables fit the model; see `check_arrays`."""
    try:
        check_arrays(given.variables, given.model)
    except ValueError as error:
        raise ValueError(
            f"these variables are not those of this {given.model.title}: {error}"
        ) from None


def _draw_heads(
    old: Trained, new: Model, arrays: dict[str, Any], key: jax.Array
) -> dict[str, jax.Array]:
    """Initial values of all that depends on the number of classes, or that the weights lack."""
    other = model_shapes(old.model.clone(num_classes=new.num_classes + 1))
    paths = tuple(
        path
        for path, shape in model_shapes(new).items()
        if path not in arrays or shape != other[path]
    )
    fresh = _initialize(new, paths, old.channels, key)
    largest = max(arrays.values(), key=lambda array: array.ndim)  # a convolution's, if there is one
    dtype = largest.dtype
    return {path: array.astype(dtype) for path, array in fresh.items()}


def _initialize(
    model: Model, paths: tuple[str, ...], channels: int, key: jax.Array
) -> dict[str, jax.Array]:
    """Initial values of the arrays at some paths."""

    @jax.jit
    def draw(key: jax.Array) -> dict[str, jax.Array]:
        side = model.min_size
        images = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
        arrays = dict(flatten_variables(model.init(key, images)))
        return {path: arrays[path] for path in paths}

    return draw(key)


def _change_channels(kernel: Any, channels: int) -> jax.Array:
    """[kh, kw, old, out] → [kh, kw, channels, out]."""
    old = kernel.shape[2]
    if channels == 1:
        return jnp.sum(kernel, axis=2, keepdims=True)
    return jnp.take(kernel, jnp.arange(channels) % old, axis=2) * (old / channels)
