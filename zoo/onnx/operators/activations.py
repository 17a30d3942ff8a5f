"""Activations."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from zoo.onnx.operators.arithmetic import BROADCASTS_LIKE_NUMPY
from zoo.onnx.registry import Call, Value, operator

# Before this version all axes from one on were taken together.
SOFTMAX_OF_ONE_AXIS = 13


@operator("Relu")
def relu(call: Call, x: Value) -> Value:
    """max(x, 0)."""
    return jax.nn.relu(x)


@operator("LeakyRelu")
def leaky_relu(call: Call, x: Value) -> Value:
    """x, or alpha · x where it is negative."""
    return jnp.where(x < 0, x * _as(x, call.get("alpha", 0.01)), x)


@operator("PRelu")
def prelu(call: Call, x: Value, slope: Value) -> Value:
    """x, or slope · x where it is negative."""
    per_channel = slope.ndim == 1 and slope.size > 1 and x.ndim > 1
    if per_channel and call.version < BROADCASTS_LIKE_NUMPY:
        slope = slope.reshape(slope.shape + (1,) * (x.ndim - 2))
    return jnp.where(x < 0, x * slope, x)


@operator("Elu")
def elu(call: Call, x: Value) -> Value:
    """x, or alpha · (exp(x) − 1) where it is negative."""
    return jnp.where(x > 0, x, _as(x, call.get("alpha", 1.0)) * jnp.expm1(jnp.minimum(x, 0)))


@operator("Selu")
def selu(call: Call, x: Value) -> Value:
    """Gamma times an elu."""
    alpha = _as(x, call.get("alpha", 1.67326319217681884765625))
    gamma = _as(x, call.get("gamma", 1.05070102214813232421875))
    return gamma * jnp.where(x > 0, x, alpha * jnp.expm1(jnp.minimum(x, 0)))


@operator("Celu")
def celu(call: Call, x: Value) -> Value:
    """An elu whose slope is continuous."""
    alpha = _as(x, call.get("alpha", 1.0))
    return jnp.maximum(x, 0) + jnp.minimum(alpha * jnp.expm1(x / alpha), 0)


@operator("ThresholdedRelu")
def thresholded_relu(call: Call, x: Value) -> Value:
    """X where it is above alpha, else 0."""
    return jnp.where(x > _as(x, call.get("alpha", 1.0)), x, _as(x, 0))


@operator("Sigmoid")
def sigmoid(call: Call, x: Value) -> Value:
    """1 / (1 + exp(−x))."""
    return jax.nn.sigmoid(x)


@operator("HardSigmoid")
def hard_sigmoid(call: Call, x: Value) -> Value:
    """Alpha · x + beta, from 0 to 1."""
    alpha, beta = _as(x, call.get("alpha", 0.2)), _as(x, call.get("beta", 0.5))
    return jnp.clip(alpha * x + beta, 0, 1)


@operator("HardSwish")
def hard_swish(call: Call, x: Value) -> Value:
    """X · hard_sigmoid(x)."""
    return x * jnp.clip(x * _as(x, 1 / 6) + _as(x, 0.5), 0, 1)


@operator("Swish")
def swish(call: Call, x: Value) -> Value:
    """X · sigmoid(alpha · x)."""
    return x * jax.nn.sigmoid(_as(x, call.get("alpha", 1.0)) * x)


@operator("Gelu")
def gelu(call: Call, x: Value) -> Value:
    """X times the share of a normal distribution below it."""
    return jax.nn.gelu(x, approximate=call.text("approximate", "none") == "tanh")


@operator("Mish")
def mish(call: Call, x: Value) -> Value:
    """X · tanh(softplus(x))."""
    return x * jnp.tanh(jax.nn.softplus(x))


@operator("Softplus")
def softplus(call: Call, x: Value) -> Value:
    """log(1 + exp(x))."""
    return jax.nn.softplus(x)


@operator("Softsign")
def softsign(call: Call, x: Value) -> Value:
    """X / (1 + |x|)."""
    return x / (1 + jnp.abs(x))


@operator("Shrink")
def shrink(call: Call, x: Value) -> Value:
    """X nearer to 0 by the bias, and 0 within lambd of it."""
    bias, limit = _as(x, call.get("bias", 0.0)), _as(x, call.get("lambd", 0.5))
    return jnp.where(x < -limit, x + bias, jnp.where(x > limit, x - bias, _as(x, 0)))


@operator("SwiGLU")
def swiglu(call: Call, gate: Value, linear: Value) -> Value:
    """The swish of one input times the other."""
    return swish(call, gate) * linear


@operator("Softmax")
def softmax(call: Call, x: Value) -> Value:
    """Exponentials that add up to 1."""
    return _along_axis(call, x, jax.nn.softmax)


@operator("LogSoftmax")
def log_softmax(call: Call, x: Value) -> Value:
    """The logarithms of a softmax."""
    return _along_axis(call, x, jax.nn.log_softmax)


@operator("Hardmax")
def hardmax(call: Call, x: Value) -> Value:
    """1 at the first maximum, 0 elsewhere."""

    def compute(x: jax.Array, axis: int) -> jax.Array:
        return jax.nn.one_hot(jnp.argmax(x, axis), x.shape[axis], dtype=x.dtype, axis=axis)

    return _along_axis(call, x, compute)


@operator("Dropout", known=(1, 2))
def dropout(call: Call, x: Value, ratio: Value = None, training: Value = None) -> Value:
    """X as it is, as in inference; and a mask of what is kept."""
    if training is not None and training.any() and (ratio is None or np.any(ratio)):
        raise NotImplementedError("training_mode is not there: its mask would be of other numbers")
    dtype = bool if call.version >= 10 else x.dtype
    return x, jnp.ones(x.shape, dtype)


def _along_axis(call: Call, x: Value, compute: Callable[..., jax.Array]) -> Value:
    """A function along an axis; of old versions along all from it on."""
    x = jnp.asarray(x)
    if call.version >= SOFTMAX_OF_ONE_AXIS:
        return compute(x, axis=call.get("axis", -1))
    axis = call.get("axis", 1) % max(1, x.ndim)
    flat = x.reshape(int(np.prod(x.shape[:axis])), -1)
    return compute(flat, axis=-1).reshape(x.shape)


def _as(x: Value, value: float) -> np.ndarray:
    """A number in x's type."""
    return np.asarray(value, x.dtype)
