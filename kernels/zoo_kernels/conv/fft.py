"""Dense convolution in the frequency domain (Mathieu et al. 2014, arXiv 1312.5851).

Every pair of channels costs one product a frequency, whatever the size of the kernel: for large
kernels on large images. XLA does not partition transforms: a batch that plain jit shards over
devices is gathered for them (inside `jax.shard_map` it is not).
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from zoo_kernels.core import convolution
from zoo_kernels.core.dtypes import accumulation_dtype
from zoo_kernels.core.linear_vjp import ConvSpec


def forward(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """(x, w) → y. Strides skip outputs after they were computed."""
    window, dtype = spec.window, accumulation_dtype(x.dtype)
    (ho, wo), (sh, sw), (dh, dw) = window.out, window.strides, window.dilation
    zero = jnp.zeros((), dtype)
    padded = jnp.pad(x, ((0, 0), *window.padding, (0, 0))).astype(dtype)
    flipped = jnp.flip(w, (0, 1)).astype(dtype)
    flipped = lax.pad(flipped, zero, ((0, 0, dh - 1), (0, 0, dw - 1), (0, 0, 0), (0, 0, 0)))
    size = padded.shape[1:3]
    spectrum = jnp.einsum(
        "nhwc,hwco->nhwo",
        jnp.fft.rfft2(padded, axes=(1, 2)),
        jnp.fft.rfft2(flipped, size, axes=(0, 1)),
    )
    y = jnp.fft.irfft2(spectrum, size, axes=(1, 2))
    # The transform is periodic: outputs that wrap around lie before the first whole window.
    top, left = flipped.shape[0] - 1, flipped.shape[1] - 1
    y = y[:, top : top + (ho - 1) * sh + 1 : sh, left : left + (wo - 1) * sw + 1 : sw]
    return y.astype(x.dtype)


input_grad = functools.partial(convolution.input_grad, forward)
weight_grad = functools.partial(convolution.weight_grad, forward)
