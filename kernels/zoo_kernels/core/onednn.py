"""Convolutions in the form that XLA's compiler for CPUs hands over to oneDNN, if an option lets it.

The same library as PyTorch's. XLA hands over dense convolutions by itself.
"""

import jax
import jax.numpy as jnp
from jax import lax

from zoo_kernels.core import compiler, jax_compat
from zoo_kernels.core.window import Pair


def correlate(
    x: jax.Array,
    taps: jax.Array,
    strides: Pair,
    padding: tuple[Pair, Pair],
    dilation: Pair,
    dtype: jnp.dtype,
) -> jax.Array:
    """Convolves x with a kernel of groups, or with depthwise taps [kh, kw, C], in its own dtype.

    The barrier keeps XLA from writing a flipped kernel as a property of the convolution, which
    then would not be oneDNN's; nor would one with negative padding, so x is cropped beforehand.
    """
    if min(map(min, padding)) < 0:
        config = [(low, high, 0) for low, high in ((0, 0), *padding, (0, 0))]
        x, padding = lax.pad(x, jnp.zeros((), x.dtype), config), ((0, 0), (0, 0))
    kernel = taps[:, :, None] if taps.ndim == 3 else taps
    return lax.conv_general_dilated(
        x,
        jax_compat.barrier(kernel),
        strides,
        padding,
        rhs_dilation=dilation,
        feature_group_count=x.shape[3] // kernel.shape[2],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def unsupported(a: jax.Array) -> str | None:
    """The reason why no convolution of such operands can be done, or None."""
    if not compiler.uses_onednn():
        return "needs the compiler option that kernels.jit sets, jaxlib 0.11 and Linux on x86-64"
    return None if a.dtype == jnp.float32 else f"takes float32, got {a.dtype}"
