"""Depthwise convolution: every channel is filtered on its own."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from kernels import dispatch
from kernels.bilinear import Static, convolve
from kernels.window import DEPTHWISE, Padding, operands


def depthwise_conv(
    x: jax.Array,
    w: jax.Array,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    flip: bool = False,
    implementation: dispatch.Requested = None,
) -> jax.Array:
    """Convolves each channel with its own kernels (Sifre 2014; Chollet 2017, arXiv 1610.02357).

    Args:
      x: input, [N, H, W, C], floating point.
      w: kernels, [kh, kw, 1, C·m] of x's dtype; output channel c·m + j filters input channel c.
      strides, dilation: an integer, or one for height and one for width.
      padding: "SAME" (XLA's, the odd row or column last), "VALID", an integer, or
        ((top, bottom), (left, right)).
      flip: False is cross-correlation, as in JAX and PyTorch; True is convolution in the
        mathematical sense, as in Flux, which turns the kernel by 180 degrees.
      implementation: None chooses by platform, a name is strict, a sequence is tried in order.

    Returns:
      [N, H', W', C·m] of x's dtype; float16 and bfloat16 are accumulated in float32.

    Raises:
      ValueError: arguments that do not fit each other.
      NotImplementedError: the implementation asked for cannot do the call.

    Differentiable in reverse mode, to any order.
    """
    x, w, window = operands("depthwise_conv", x, w, strides, padding, dilation, DEPTHWISE)
    if flip:
        w = jnp.flip(w, (0, 1))
    return convolve("depthwise_conv", implementation, Static(window), x, w)
