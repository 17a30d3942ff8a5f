"""Depthwise convolution by oneDNN, which XLA calls on a CPU where a compiler option lets it.

The same library as PyTorch's. It serves ordinary convolutions, so an input gradient is written as
one: of dy with the turned kernel. What it does not serve stays a sum of shifted products: the
weight gradient, and with strides the input gradient, whose phases were measured to be no faster by
oneDNN (EfficientNet-Lite's 5x5 at 56x56: 1.4 ms instead of 0.9).
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from kernels import compiler, dispatch
from kernels.bilinear import FORWARD, INPUT_GRAD, WEIGHT_GRAD, Static
from kernels.window import Pair
from kernels.xla import depthwise


def _correlate(
    x: jax.Array,
    taps: jax.Array,
    strides: Pair,
    padding: tuple[Pair, Pair],
    dilation: Pair,
    dtype: jnp.dtype,
) -> jax.Array:
    """As depthwise.correlate, as one ordinary convolution.

    The barrier keeps XLA from writing a turned kernel as a property of the convolution, which
    then would not be oneDNN's; nor would one with negative padding, which is done beforehand.
    """
    if min(map(min, padding)) < 0:
        config = [(low, high, 0) for low, high in ((0, 0), *padding, (0, 0))]
        x, padding = lax.pad(x, jnp.zeros((), x.dtype), config), ((0, 0), (0, 0))
    return lax.conv_general_dilated(
        x,
        lax.optimization_barrier(taps[:, :, None]),
        strides,
        padding,
        rhs_dilation=dilation,
        feature_group_count=x.shape[3],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def input_grad(static: Static, dy: jax.Array, w: jax.Array) -> jax.Array:
    """(dy, w) → dx."""
    if static.window.strides == (1, 1):
        return depthwise.input_grad(static, dy, w, correlate=_correlate)
    return depthwise.input_grad(static, dy, w)


def refuses(static: Static, *arrays: jax.Array) -> str | None:
    """Why the call cannot be done, or None."""
    a, b = arrays
    if not compiler.onednn():
        return "needs the compiler option that kernels.jit sets, jaxlib 0.11 and Linux on x86-64"
    if a.dtype != jnp.float32:
        return f"takes float32, got {a.dtype}"
    if max(a.shape[3], b.shape[3]) != static.window.channels:
        return "takes no channel multiplier"
    return None


IMPLEMENTATION = dispatch.Implementation(
    "onednn",
    {
        FORWARD: functools.partial(depthwise.forward, correlate=_correlate),
        INPUT_GRAD: input_grad,
        WEIGHT_GRAD: depthwise.weight_grad,
    },
    platforms=("cpu",),
    refuses=refuses,
)
