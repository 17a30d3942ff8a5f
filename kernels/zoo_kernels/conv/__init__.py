"""Convolution, dense and grouped."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from zoo_kernels.core import dispatch
from zoo_kernels.core.linear_vjp import ConvSpec, convolve
from zoo_kernels.core.recompute import RecomputableArray, split_recomputable
from zoo_kernels.core.window import Padding, resolve_convolution

OP = "conv"
ALGORITHMS = ("auto", "direct", "gemm", "winograd", "fft")


def conv(
    x: jax.Array | RecomputableArray,
    w: jax.Array,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    flip: bool = False,
    algo: str = "auto",
    implementation: dispatch.Requested = None,
) -> jax.Array:
    """Convolves x with w.

    Args:
      x: input, [N, H, W, C], floating point; or a RecomputableArray.
      w: kernel, [kh, kw, C / groups, out] of x's dtype.
      strides, dilation: an integer, or one for height and one for width.
      padding: "SAME" (XLA's, the odd row or column last), "VALID", an integer, or
        ((top, bottom), (left, right)).
      groups: channels are convolved in this many separate groups.
      flip: False is cross-correlation, as in JAX and PyTorch; True is convolution in the
        mathematical sense, as in Flux, which flips the kernel in height and width.
      algo: how every pass is computed. "direct": the compiler's own convolution, which on an
        NVIDIA GPU is cuDNN's, autotuned (on a CPU, grouped convolutions are made of dense or
        depthwise ones first, where that is faster). "gemm": matrix products over patches.
        "winograd": minimal filtering, for 3x3 kernels without strides or dilation; differs from
        the others by about ten times float32's rounding. "fft": products of spectra. "auto"
        chooses for each pass and platform by measured tables; `kernels.explain` tells its choice.
      implementation: None chooses by platform, a name is strict, a sequence is tried in order.

    Returns:
      [N, H', W', out] of x's dtype; float16 and bfloat16 are accumulated in float32.

    Raises:
      ValueError: arguments that do not fit each other.
      NotImplementedError: the algorithm or implementation asked for cannot do the call.

    Differentiable in reverse mode, to any order.
    """
    if algo not in ALGORITHMS:
        raise ValueError(f"{OP}: algo must be one of {', '.join(ALGORITHMS)}, got {algo!r}")
    x, recomputable = split_recomputable(x)
    x, w, window = resolve_convolution(OP, x, w, strides, padding, dilation, groups)
    if flip:
        w = jnp.flip(w, (0, 1))
    return convolve(OP, implementation, ConvSpec(window, algo), x, w, recomputable)
