"""Depthwise convolution by oneDNN, which XLA calls on a CPU where an option lets it.

oneDNN serves ordinary convolutions, so the input gradient is written as one, of dy with the flipped
kernel. What it does not serve stays a sum of shifted products: the weight gradient, and with
strides the input gradient, whose phases were measured to be no faster by oneDNN (EfficientNet-
Lite's 5x5 at 56x56: 1.4 ms instead of 0.9).
"""

import functools

import jax

from zoo_kernels.core import dispatch, onednn
from zoo_kernels.core.linear_vjp import FORWARD, INPUT_GRAD, WEIGHT_GRAD, ConvSpec
from zoo_kernels.depthwise_conv import cpu
from zoo_kernels.depthwise_conv.xla import fuse_bias_act


def _input_grad(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """(dy, w) → dx."""
    if spec.window.strides == (1, 1):
        return cpu.input_grad(spec, dy, w, correlate=onednn.correlate)
    return cpu.input_grad(spec, dy, w)


def _unsupported(spec: ConvSpec, a: jax.Array, b: jax.Array) -> str | None:
    if max(a.shape[3], b.shape[3]) != spec.window.channels:
        return onednn.unsupported(a) or "takes no channel multiplier"
    return onednn.unsupported(a)


CONV = dispatch.Implementation(
    "onednn",
    {
        FORWARD: functools.partial(cpu.forward, correlate=onednn.correlate),
        INPUT_GRAD: _input_grad,
        WEIGHT_GRAD: cpu.weight_grad,
    },
    platforms=("cpu",),
    unsupported=_unsupported,
)
CONV_BIAS_ACT = fuse_bias_act(CONV)
