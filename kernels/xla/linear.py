"""What the convolutions share: gradients of a linear map, and the precision of a sum."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from kernels.bilinear import Static


def wide(dtype: jnp.dtype) -> jnp.dtype:
    """The dtype to accumulate in: float32, or float64 where the operands are."""
    return jnp.promote_types(dtype, jnp.float32)


Forward = Callable[[Static, jax.Array, jax.Array], jax.Array]


def input_grad(forward: Forward, static: Static, dy: jax.Array, w: jax.Array) -> jax.Array:
    """Gets dx by transposing `forward`, which is linear in x."""
    channels = w.shape[2] * static.window.groups
    x = jax.ShapeDtypeStruct((dy.shape[0], *static.window.size, channels), dy.dtype)
    return jax.linear_transpose(lambda x: forward(static, x, w), x)(dy)[0]


def weight_grad(forward: Forward, static: Static, x: jax.Array, dy: jax.Array) -> jax.Array:
    """Gets dw by transposing `forward`, which is linear in w."""
    window = static.window
    shape = (*window.kernel, x.shape[3] // window.groups, dy.shape[3])
    w = jax.ShapeDtypeStruct(shape, dy.dtype)
    return jax.linear_transpose(lambda w: forward(static, x, w), w)(dy)[0]


def direct(static: Static, x: jax.Array, w: jax.Array) -> jax.Array:
    """The compiler's own convolution: cuDNN on an NVIDIA GPU."""
    window = static.window
    return jax.lax.conv_general_dilated(
        x,
        w,
        window.strides,
        window.padding,
        rhs_dilation=window.dilation,
        feature_group_count=window.groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
