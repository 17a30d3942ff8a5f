"""What the convolutions share: the transpose of a linear map, and the precision of a sum."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from zoo_kernels.core.linear_vjp import FORWARD, INPUT_GRAD, WEIGHT_GRAD, ConvSpec
from zoo_kernels.core.sharding import match_varying
from zoo_kernels.core.window import Window


def wide(dtype: jnp.dtype) -> jnp.dtype:
    """The dtype to accumulate in: float32, or float64 where the operands are."""
    return jnp.promote_types(dtype, jnp.float32)


Forward = Callable[[ConvSpec, jax.Array, jax.Array], jax.Array]


def transposed(
    f: Callable[[jax.Array], jax.Array], shape: Sequence[int], cotangent: jax.Array
) -> jax.Array:
    """Applies the transpose of f, a linear map of arrays of that shape and of cotangent's dtype.

    By `jax.vjp` at zeros, whose forward part nothing uses: `jax.linear_transpose` does not take
    operands that vary over the devices of `jax.shard_map`.
    """
    zeros = match_varying(jnp.zeros(tuple(shape), cotangent.dtype), cotangent)[0]
    return jax.vjp(f, zeros)[1](cotangent)[0]


def input_grad(forward: Forward, spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Gets dx by transposing `forward`, which is linear in x."""
    window = spec.window
    shape = (dy.shape[0], *window.size, w.shape[2] * window.groups)
    return transposed(lambda x: forward(spec, x, w), shape, dy)


def weight_grad(forward: Forward, spec: ConvSpec, x: jax.Array, dy: jax.Array) -> jax.Array:
    """Gets dw by transposing `forward`, which is linear in w."""
    window = spec.window
    shape = (*window.kernel, x.shape[3] // window.groups, dy.shape[3])
    return transposed(lambda w: forward(spec, x, w), shape, dy)


def accumulating(pass_: Forward) -> Forward:
    """The pass on float32 or better, rounded once at the end: for compilers that would not."""

    def run(spec: ConvSpec, a: jax.Array, b: jax.Array) -> jax.Array:
        dtype = wide(a.dtype)
        return pass_(spec, a.astype(dtype), b.astype(dtype)).astype(a.dtype)

    return run


def taps(window: Window, x: jax.Array) -> Iterator[jax.Array]:
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


DIRECT: Mapping[str, Forward] = {
    FORWARD: direct,
    INPUT_GRAD: functools.partial(input_grad, direct),
    WEIGHT_GRAD: functools.partial(weight_grad, direct),
}
