"""Trained weights for other classes and other images."""

from typing import Any

import jax
import jax.numpy as jnp

from pretrained.store import leaves, nested
from zoo.models.base import Model


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
      num_classes: the new number of logits: a fresh head, all else is kept. None keeps the head.
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
    for name, number in (("num_classes", num_classes), ("channels", channels)):
        if number is not None and (not isinstance(number, int) or number < 1):
            raise ValueError(f"{name} must be an integer of at least 1, got {number!r}")
    new = old if num_classes is None else old.clone(num_classes=num_classes)
    given = dict(leaves(variables))
    # What a number of channels that no image has would change is the first kernel.
    shapes = dict(leaves(jax.eval_shape(new.init, jax.random.key(0), _images(new, NONE))))
    if shapes.keys() != given.keys():
        amiss = ", ".join(sorted(shapes.keys() ^ given.keys())[:5])
        raise ValueError(f"these variables are not a {old.title}'s, which differ in {amiss}")
    changed = [path for path in given if given[path].shape != shapes[path].shape]
    first = next(path for path in changed if NONE in shapes[path].shape)
    before = given[first].shape[2]
    adapted = dict(given)
    if num_classes is not None:
        fresh = _fresh(new, tuple(path for path in changed if path != first), before, key)
        adapted |= {path: array.astype(given[path].dtype) for path, array in fresh.items()}
    if channels is not None and channels != before:
        adapted[first] = _other_channels(given[first], channels)
    return new, nested(adapted)


NONE = 997


def _fresh(
    model: Model, paths: tuple[str, ...], channels: int, key: jax.Array | None
) -> dict[str, jax.Array]:
    """Initial values of the arrays at some paths."""

    @jax.jit
    def draw(key: jax.Array) -> dict[str, jax.Array]:
        arrays = dict(leaves(model.init(key, _images(model, channels))))
        return {path: arrays[path] for path in paths}

    return draw(jax.random.key(0) if key is None else key) if paths else {}


def _images(model: Model, channels: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, model.least_size, model.least_size, channels), jnp.float32)


def _other_channels(kernel: Any, channels: int) -> jax.Array:
    """[kh, kw, old, out] → [kh, kw, channels, out]."""
    old = kernel.shape[2]
    if channels == 1:
        return jnp.sum(kernel, axis=2, keepdims=True)
    return jnp.take(kernel, jnp.arange(channels) % old, axis=2) * (old / channels)
