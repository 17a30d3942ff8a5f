"""Bias, residual and activation by XLA, which fuses each pass into one loop."""

import jax

from kernels import activations, dispatch
from kernels.bias_act import Static
from kernels.xla.linear import wide


def forward(
    static: Static, x: jax.Array, bias: jax.Array, residual: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """→ y = act(z) and z = x + bias + residual, both like x."""
    dtype = wide(x.dtype)
    z = x.astype(dtype) + bias.astype(dtype)
    if residual is not None:
        z = z + residual.astype(dtype)
    return activations.ACTIVATIONS[static.act].value(z).astype(x.dtype), z.astype(x.dtype)


def backward(
    static: Static, kept: jax.Array, bias: jax.Array, dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """→ dx (which is the residual's gradient too) and dbias; `kept` is y or z."""
    dtype = wide(dy.dtype)
    dz = dy.astype(dtype) * activations.slope(static.act, kept.astype(dtype))
    dbias = dz.sum(axis=tuple(range(dz.ndim - 1)))
    return dz.astype(dy.dtype), dbias.astype(bias.dtype)


IMPLEMENTATION = dispatch.Implementation("xla", {"forward": forward, "backward": backward})
