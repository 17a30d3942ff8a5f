"""The C++ layers as implementations of single operators, for those who ask for them by name.

They are never the default: one by one they pack their weights in each call. Gradients are those of
the implementation for CPUs.
"""

import jax
import jax.numpy as jnp

from zoo_kernels import native
from zoo_kernels.conv import cpu as conv_cpu
from zoo_kernels.core.dispatch import Implementation
from zoo_kernels.core.linear_vjp import FORWARD, ConvSpec
from zoo_kernels.core.window import Window
from zoo_kernels.depthwise_conv import DepthwiseBiasActSpec
from zoo_kernels.depthwise_conv import cpu as depthwise_cpu
from zoo_kernels.max_pool import cpu as max_pool_cpu

NAME = "native"


def _conv(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    bias = native.pad_channels(jnp.zeros(w.shape[3], x.dtype), jnp)
    return native.conv([x], native.pack(w, xp=jnp), bias, outputs=w.shape[3], window=spec.window)


def _depthwise(
    spec: ConvSpec | DepthwiseBiasActSpec, x: jax.Array, w: jax.Array, bias: jax.Array | None = None
) -> jax.Array:
    act = spec.act if isinstance(spec, DepthwiseBiasActSpec) else "identity"
    bias = jnp.zeros(w.shape[3], x.dtype) if bias is None else bias
    packed = native.pack(w, depthwise=True, xp=jnp)
    padded = native.pad_channels(bias.astype(x.dtype), jnp)
    return native.depthwise_conv(x, packed, padded, window=spec.window, act=act)


def _max_pool(window: Window, x: jax.Array) -> list[jax.Array]:
    return [native.max_pool(x, window)]


def _not_float32(*arrays: jax.Array) -> str | None:
    values = (a for a in arrays if jnp.issubdtype(a.dtype, jnp.floating))  # and no indices
    if any(array.dtype != jnp.float32 for array in values):
        return "computes in float32 only"
    return native.unavailable()


def _unsupported_conv(spec: ConvSpec, *arrays: jax.Array) -> str | None:
    if spec.algo not in ("auto", "direct"):
        return f"is direct, not {spec.algo}"
    if spec.window.groups > 1:
        return "takes one group"
    return _not_float32(*arrays)


def _unsupported_depthwise(spec: ConvSpec | DepthwiseBiasActSpec, *arrays: jax.Array) -> str | None:
    if any(array.shape[-1] != spec.window.channels for array in arrays):
        return "takes no channel multiplier"
    act = spec.act if isinstance(spec, DepthwiseBiasActSpec) else "identity"
    if act not in native.ACTS:
        return f"has no activation {act}"
    return _not_float32(*arrays)


CONV = Implementation(
    NAME,
    {**conv_cpu.IMPLEMENTATION.passes, FORWARD: _conv},
    ("cpu",),
    _unsupported_conv,
    by_name_only=True,
)
DEPTHWISE_CONV = Implementation(
    NAME,
    {**depthwise_cpu.CONV.passes, FORWARD: _depthwise},
    ("cpu",),
    _unsupported_depthwise,
    by_name_only=True,
)
DEPTHWISE_BIAS_ACT = Implementation(
    NAME, {FORWARD: _depthwise}, ("cpu",), _unsupported_depthwise, by_name_only=True
)
MAX_POOL = Implementation(
    NAME,
    {**max_pool_cpu.IMPLEMENTATION.passes, "forward": _max_pool},
    ("cpu",),
    lambda spec, *arrays: _not_float32(*arrays),
    by_name_only=True,
)
