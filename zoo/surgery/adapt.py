"""Trained weights for other classes and other images."""

import operator
from typing import Any

import jax
import jax.numpy as jnp

from zoo.checkpoints.validate import Shapes, array_shapes, compare_shapes
from zoo.models.base import Model
from zoo.surgery.unpack import unpack
from zoo_pretrained.checkpoint import flatten_variables, unflatten_variables


def adapt(
    model: Any,
    *,
    num_classes: int | None = None,
    channels: int | None = None,
    key: jax.Array | None = None,
) -> tuple[Model, dict[str, Any]]:
    """A model and its weights for another number of classes, or of image channels.

    Args:
      model: what `zoo.trained` returns, or a pair (model, variables).
      num_classes: the number of logits of a fresh head; everything else stays. None keeps the head.
        Weights without a classifier get the whole classifier.
      channels: the new number of image channels. For one, the first convolution's kernels are
        summed over their channels, so that a grey image gives what it gave as three equal channels.
        For more, the old channels are repeated in turn and scaled by old / new, so that activations
        keep their size. None keeps the first convolution.
      key: a random key for the fresh head; `jax.random.key(0)` by default.

    Returns:
      (model, variables); arrays that do not change are the same objects.

    Raises:
      ValueError: a number below 1, or variables that do not fit the model.
      TypeError: `model` has no variables.
    """
    old_model, variables = unpack(model)
    num_classes = _validate_count("num_classes", num_classes)
    channels = _validate_count("channels", channels)
    arrays, expected = dict(flatten_variables(variables)), _shapes(old_model, CHANNELS)
    (first,) = _changed(expected, _shapes(old_model, CHANNELS + 1))
    missing: list[str] = []
    if num_classes is not None:  # VGG's classifier has three layers
        missing = [
            path
            for path in expected.keys() - arrays.keys()
            if path.split("/")[1] in old_model.classifier
        ]
    _validate(old_model, arrays, {p: s for p, s in expected.items() if p not in missing}, first)
    old_channels = arrays[first].shape[2]
    new_model, adapted = old_model, dict(arrays)
    if num_classes is not None:
        new_model = old_model.clone(num_classes=num_classes)
        other_model = old_model.clone(num_classes=old_model.num_classes + 1)
        heads = _changed(expected, _shapes(other_model, CHANNELS))
        paths = tuple(sorted({*heads, *missing}))
        key = jax.random.key(0) if key is None else key
        fresh = _initialize(new_model, paths, old_channels, key)
        dtype = arrays[first].dtype
        adapted |= {path: array.astype(dtype) for path, array in fresh.items()}
    if channels is not None and channels != old_channels:
        adapted[first] = _change_channels(arrays[first], channels)
    return new_model, unflatten_variables(adapted)


CHANNELS = 3  # any number would do


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


def _shapes(model: Model, channels: int) -> Shapes:
    return array_shapes(model.variable_shapes(channels))


def _changed(shapes: Shapes, others: Shapes) -> list[str]:
    """The paths of the arrays whose shapes differ between two variants of a model."""
    return [path for path, shape in shapes.items() if shape != others[path]]


def _validate(model: Model, arrays: dict[str, Any], expected: Shapes, first: str) -> None:
    """Raises ValueError unless the arrays fit the model, for images of any number of channels."""
    found = {path: tuple(array.shape) for path, array in arrays.items()}
    if len(found.get(first, ())) == 4:
        expected = {**expected, first: (*expected[first][:2], found[first][2], expected[first][3])}
    if mismatch := compare_shapes(found, expected):
        raise ValueError(f"these variables are not those of this {model.title}: {mismatch}")


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
