"""XLA's own convolution with its two gradients, and transposes of linear maps."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from zoo_kernels.core.dtypes import accumulation_dtype
from zoo_kernels.core.linear_vjp import FORWARD, INPUT_GRAD, WEIGHT_GRAD, ConvSpec
from zoo_kernels.core.sharding import match_varying
from zoo_kernels.core.window import Window

# pass_(spec, a, b): (x, w) → y, (dy, w) → dx or (x, dy) → dw.
Pass = Callable[[ConvSpec, jax.Array, jax.Array], jax.Array]
Passes = Mapping[str, Pass]


def transpose_linear(
    f: Callable[[jax.Array], jax.Array], shape: Sequence[int], cotangent: jax.Array
) -> jax.Array:
    """Applies the transpose of f, a linear map of arrays of that shape and of cotangent's dtype.

    By `jax.vjp` at zeros, whose forward part nothing uses: `jax.linear_transpose` does not take
    operands that vary over the devices of `jax.shard_map`.
    """
    zeros = match_varying(jnp.zeros(tuple(shape), cotangent.dtype), cotangent)[0]
    return jax.vjp(f, zeros)[1](cotangent)[0]


def input_grad(forward: Pass, spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """(dy, w) → dx, by transposing `forward`, which is linear in x."""
    window = spec.window
    shape = (dy.shape[0], *window.size, w.shape[2] * window.groups)
    return transpose_linear(lambda x: forward(spec, x, w), shape, dy)


def weight_grad(forward: Pass, spec: ConvSpec, x: jax.Array, dy: jax.Array) -> jax.Array:
    """(x, dy) → dw, by transposing `forward`, which is linear in w."""
    window = spec.window
    shape = (*window.kernel, x.shape[3] // window.groups, dy.shape[3])
    return transpose_linear(lambda w: forward(spec, x, w), shape, dy)


def accumulate_in_float32(pass_: Pass) -> Pass:
    """Has a pass run in float32 or better, and rounds once at the end."""

    def run(spec: ConvSpec, a: jax.Array, b: jax.Array) -> jax.Array:
        dtype = accumulation_dtype(a.dtype)
        return pass_(spec, a.astype(dtype), b.astype(dtype)).astype(a.dtype)

    return run


def slice_taps(window: Window, x: jax.Array) -> Iterator[jax.Array]:
    """For each tap of a window, by rows, what of a padded x lies under it: [N, H', W', C]."""
    (kh, kw), (ho, wo) = window.kernel, window.out
    (sh, sw), (dh, dw) = window.strides, window.dilation
    n, _, _, c = x.shape
    for i, j in itertools.product(range(kh), range(kw)):
        start = (0, i * dh, j * dw, 0)
        stop = (n, i * dh + (ho - 1) * sh + 1, j * dw + (wo - 1) * sw + 1, c)
        yield lax.slice(x, start, stop, (1, sh, sw, 1))


def direct(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """The compiler's own convolution: cuDNN on an NVIDIA GPU."""
    window = spec.window
    return lax.conv_general_dilated(
        x,
        w,
        window.strides,
        window.padding,
        rhs_dilation=window.dilation,
        feature_group_count=window.groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


DIRECT: Passes = {
    FORWARD: direct,
    INPUT_GRAD: functools.partial(input_grad, direct),
    WEIGHT_GRAD: functools.partial(weight_grad, direct),
}
