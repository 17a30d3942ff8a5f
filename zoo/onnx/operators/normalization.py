"""Normalisation."""

import jax
import jax.numpy as jnp
import numpy as np

from zoo.onnx.registry import Call, Value, operator


@operator("BatchNormalization")
def batch_norm(call: Call, x: Value, scale: Value, shift: Value, mean: Value, var: Value) -> Value:
    """Channels, normalised by given statistics; or in training by their own, with new ones."""
    x, shape = jnp.asarray(x), (-1,) + (1,) * (x.ndim - 2)
    eps = call.get("epsilon", 1e-5)
    if not call.get("training_mode", 0):
        return _affine(x, mean.reshape(shape), var.reshape(shape), scale, shift, eps, shape)
    axes = (0, *range(2, x.ndim))
    own_mean, own_var = x.mean(axes), x.var(axes)
    momentum = call.get("momentum", 0.9)
    y = _affine(x, own_mean.reshape(shape), own_var.reshape(shape), scale, shift, eps, shape)
    new = [momentum * old + (1 - momentum) * own for old, own in ((mean, own_mean), (var, own_var))]
    return y, *new


@operator("InstanceNormalization")
def instance_norm(call: Call, x: Value, scale: Value, shift: Value) -> Value:
    """Each channel of each image, normalised."""
    x, axes = jnp.asarray(x), tuple(range(2, x.ndim))
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    shape = (-1,) + (1,) * (x.ndim - 2)
    return _affine(x, mean, var, scale, shift, call.get("epsilon", 1e-5), shape)


@operator("LayerNormalization")
def layer_norm(call: Call, x: Value, scale: Value, shift: Value = None) -> Value:
    """The last axes together, normalised; and their means and inverse standard deviations."""
    x = jnp.asarray(x)
    axes = tuple(range(call.get("axis", -1) % x.ndim, x.ndim))
    wide = x.astype(jnp.float32)
    mean = wide.mean(axes, keepdims=True)
    inverse = jax.lax.rsqrt(wide.var(axes, keepdims=True) + call.get("epsilon", 1e-5))
    y = ((wide - mean) * inverse).astype(x.dtype) * scale
    return (y if shift is None else y + shift), mean, inverse


@operator("RMSNormalization")
def rms_norm(call: Call, x: Value, scale: Value) -> Value:
    """The last axes together, over the root of their mean square."""
    x = jnp.asarray(x)
    axes = tuple(range(call.get("axis", -1) % x.ndim, x.ndim))
    wide = x.astype(jnp.float32)
    mean = jnp.square(wide).mean(axes, keepdims=True)
    y = wide * jax.lax.rsqrt(mean + call.get("epsilon", 1e-5))
    return y.astype(x.dtype) * scale


@operator("GroupNormalization", since=18)
def group_norm(call: Call, x: Value, scale: Value, shift: Value) -> Value:
    """Groups of channels of each image, normalised."""
    groups, x = call.get("num_groups"), jnp.asarray(x)
    grouped = x.reshape(x.shape[0], groups, -1).astype(jnp.float32)
    mean, var = grouped.mean(-1, keepdims=True), grouped.var(-1, keepdims=True)
    y = (grouped - mean) * jax.lax.rsqrt(var + call.get("epsilon", 1e-5))
    y = y.astype(x.dtype).reshape(x.shape)
    # Before version 21 there was one scale for each group.
    each = x.shape[1] // scale.size
    shape = (-1,) + (1,) * (x.ndim - 2)
    return y * jnp.repeat(scale, each).reshape(shape) + jnp.repeat(shift, each).reshape(shape)


@operator("MeanVarianceNormalization")
def normalize_mean_variance(call: Call, x: Value) -> Value:
    """The given axes together, normalised."""
    x, axes = jnp.asarray(x), tuple(call.get("axes", [0, 2, 3]))
    return (x - x.mean(axes, keepdims=True)) / (x.std(axes, keepdims=True) + np.float32(1e-9))


@operator("LpNormalization")
def lp_normalize(call: Call, x: Value) -> Value:
    """Values over the p-norm along an axis; 0 where that is 0."""
    axis, p = call.get("axis", -1), call.get("p", 2)
    norm = jnp.sum(jnp.abs(x) ** p, axis, keepdims=True) ** (1 / p)
    return jnp.where(norm == 0, 0, x / jnp.where(norm == 0, 1, norm)).astype(x.dtype)


def _affine(
    x: jax.Array,
    mean: Value,
    var: Value,
    scale: Value,
    shift: Value,
    eps: float,
    shape: tuple[int, ...],
) -> jax.Array:
    factor = scale.reshape(shape) * jax.lax.rsqrt(jnp.asarray(var + eps, x.dtype))
    return (x - mean) * factor + shift.reshape(shape)
