"""Trained weights for other classes and other images."""

import operator
from typing import Any

import jax
import jax.numpy as jnp

from zoo.models.base import Model
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
      num_classes: the number of logits of a fresh head; all else is kept. None keeps the head.
        Weights without a classifier get all of it.
      channels: the new number of image channels. One takes the sum of the first convolution's
        kernels over its channels, so that a grey image does what it did with equal channels. More
        take the old ones in turn, scaled by old / new, so that activations keep their size. None
        keeps the first convolution.
      key: a random key for the fresh head; `jax.random.key(0)` by default.

    Returns:
      (model, variables), where what is kept is the same arrays.

    Raises:
      ValueError: a number below 1, or variables that are not the model's.
    """
    old, variables = model if isinstance(model, tuple) else (model.model, model.variables)
    num_classes, channels = (
        _number(name, value)
        for name, value in (("num_classes", num_classes), ("channels", channels))
    )
    given, expected = dict(flatten_variables(variables)), _shapes(old, CHANNELS)
    (first,) = _differing(expected, _shapes(old, CHANNELS + 1))
    # Weights without a classifier lack all of it; VGG's has three layers.
    missing = [p for p in expected.keys() - given.keys() if p.split("/")[1] in old.classifier]
    if num_classes is None:
        missing = []
    _check(old, given, {p: shape for p, shape in expected.items() if p not in missing}, first)
    before = given[first].shape[2]
    new, adapted = old, dict(given)
    if num_classes is not None:
        new = old.clone(num_classes=num_classes)
        heads = _differing(expected, _shapes(old.clone(num_classes=old.num_classes + 1), CHANNELS))
        paths = tuple(sorted({*heads, *missing}))
        fresh = _fresh(new, paths, before, jax.random.key(0) if key is None else key)
        dtype = given[first].dtype
        adapted |= {path: array.astype(dtype) for path, array in fresh.items()}
    if channels is not None and channels != before:
        adapted[first] = _other_channels(given[first], channels)
    return new, unflatten_variables(adapted)


CHANNELS = 3  # any number would do
Shapes = dict[str, tuple[int, ...]]


def _number(name: str, value: Any) -> int | None:
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
    return {path: leaf.shape for path, leaf in flatten_variables(model.variable_shapes(channels))}


def _differing(one: Shapes, other: Shapes) -> list[str]:
    return [path for path, shape in one.items() if shape != other[path]]


def _check(model: Model, given: dict[str, Any], expected: Shapes, first: str) -> None:
    """Raises ValueError unless these are the model's, for images of any number of channels."""
    found = {path: tuple(array.shape) for path, array in given.items()}
    if len(found.get(first, ())) == 4:
        channels = found[first][2]
        expected = {**expected, first: (*expected[first][:2], channels, expected[first][3])}
    amiss = sorted(
        path for path in found.keys() | expected.keys() if found.get(path) != expected.get(path)
    )
    if amiss:
        path = amiss[0]
        raise ValueError(
            f"these variables are not those of this {model.title}: {path} has shape "
            f"{found.get(path)} where the model has {expected.get(path)}, and {len(amiss) - 1} more"
        )


def _fresh(
    model: Model, paths: tuple[str, ...], channels: int, key: jax.Array
) -> dict[str, jax.Array]:
    """Initial values of the arrays at some paths."""

    @jax.jit
    def draw(key: jax.Array) -> dict[str, jax.Array]:
        arrays = dict(flatten_variables(model.init(key, _images(model, channels))))
        return {path: arrays[path] for path in paths}

    return draw(key)


def _images(model: Model, channels: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, model.min_size, model.min_size, channels), jnp.float32)


def _other_channels(kernel: Any, channels: int) -> jax.Array:
    """[kh, kw, old, out] → [kh, kw, channels, out]."""
    old = kernel.shape[2]
    if channels == 1:
        return jnp.sum(kernel, axis=2, keepdims=True)
    return jnp.take(kernel, jnp.arange(channels) % old, axis=2) * (old / channels)
