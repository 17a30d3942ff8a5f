"""Numbers of few bits for real ones."""

import jax.numpy as jnp
import numpy as np

from zoo.onnx.operators.arithmetic import find_dtype
from zoo.onnx.operators.convolution import conv
from zoo.onnx.registry import Call, Value, cast, operator


@operator("QuantizeLinear")
def quantize(call: Call, x: Value, scale: Value, zero: Value = None) -> Value:
    """round(x / scale) + zero, within the range of its type."""
    to = call.get("output_dtype", 0)
    dtype = zero.dtype if zero is not None else find_dtype(to) if to else np.dtype(np.uint8)
    x, scale = jnp.asarray(x), _spread(call, jnp.asarray(scale), x)
    y = x.astype(jnp.float32) / scale.astype(jnp.float32)
    if zero is None:
        offset = jnp.float32(0)
    else:
        offset = _spread(call, jnp.asarray(zero).astype(jnp.float32), x)
    if jnp.issubdtype(dtype, jnp.integer):
        limits = jnp.iinfo(dtype)
        y = jnp.clip(jnp.round(y) + offset, float(limits.min), float(limits.max))
        return y.astype(jnp.int32).astype(dtype)
    y = y + offset
    limit = float(jnp.finfo(dtype).max)
    return cast(jnp.clip(y, -limit, limit) if call.get("saturate", 1) else y, dtype)


@operator("DequantizeLinear")
def dequantize(call: Call, x: Value, scale: Value, zero: Value = None) -> Value:
    """(x − zero) · scale."""
    x = jnp.asarray(x)
    wide = x.astype(jnp.float32)
    if zero is not None:
        wide = wide - _spread(call, jnp.asarray(zero).astype(jnp.float32), x)
    to = call.get("output_dtype", 0)
    dtype = find_dtype(to) if to else scale.dtype
    return cast(wide * _spread(call, jnp.asarray(scale).astype(jnp.float32), x), dtype)


def _spread(call: Call, values: Value, x: Value) -> Value:
    """Scales for all, for each slice of an axis, or for blocks of it, as x's shape needs them."""
    if values.ndim == 0 or values.size == 1:
        return values.reshape(())
    axis = call.get("axis", 1) % x.ndim
    if values.ndim == 1:
        return values.reshape(-1, *(1,) * (x.ndim - axis - 1))
    block = call.get("block_size", 0) or -(-x.shape[axis] // values.shape[axis])
    repeated = jnp.repeat(values, block, axis)
    return jnp.take(repeated, np.arange(x.shape[axis]), axis)


@operator("DynamicQuantizeLinear")
def quantize_by_range(call: Call, x: Value) -> Value:
    """8 bits for all numbers from the smallest to the largest; with the scale and the zero."""
    x = jnp.asarray(x)
    low, high = jnp.minimum(x.min(), 0), jnp.maximum(x.max(), 0)
    scale = (high - low) / 255
    zero = jnp.clip(jnp.round(-low / scale), 0, 255)
    y = jnp.clip(jnp.round(x / scale) + zero, 0, 255)
    return y.astype(jnp.uint8), scale, zero.astype(jnp.uint8)


@operator("QLinearMatMul")
def multiply_quantized(
    call: Call,
    a: Value,
    a_scale: Value,
    a_zero: Value,
    b: Value,
    b_scale: Value,
    b_zero: Value,
    y_scale: Value,
    y_zero: Value,
) -> Value:
    """The products of quantised matrices."""
    real_a = _to_real(a, a_scale, a_zero, -2)
    real_b = _to_real(b, b_scale, b_zero, -1)
    return _to_levels(jnp.matmul(real_a, real_b), y_scale, y_zero)


@operator("QLinearConv")
def convolve_quantized(
    call: Call,
    x: Value,
    x_scale: Value,
    x_zero: Value,
    w: Value,
    w_scale: Value,
    w_zero: Value,
    y_scale: Value,
    y_zero: Value,
    b: Value = None,
) -> Value:
    """A convolution of quantised arrays."""
    real_x, real_w = _to_real(x, x_scale, x_zero, 1), _to_real(w, w_scale, w_zero, 0)
    bias = None if b is None else jnp.asarray(b).astype(jnp.float32) * x_scale * w_scale
    return _to_levels(conv(call, real_x, real_w, bias), y_scale, y_zero)


def _to_real(x: Value, scale: Value, zero: Value, axis: int) -> Value:
    wide = jnp.asarray(x).astype(jnp.float32)
    shape = [1] * wide.ndim
    if np.size(scale) > 1:
        shape[axis] = -1
    scale, zero = jnp.asarray(scale).reshape(shape), jnp.asarray(zero).reshape(shape)
    return (wide - zero.astype(jnp.float32)) * scale.astype(jnp.float32)


def _to_levels(y: Value, scale: Value, zero: Value) -> Value:
    zero = jnp.asarray(zero)
    limits = jnp.iinfo(zero.dtype)
    levels = jnp.round(y / jnp.asarray(scale).astype(jnp.float32)) + zero.astype(jnp.float32)
    return jnp.clip(levels, limits.min, limits.max).astype(zero.dtype)
