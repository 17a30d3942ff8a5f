"""Bias, residual and activation by XLA, which fuses each pass into one loop."""

from typing import Any

import jax

from kernels import activations, dispatch
from kernels.bias_act import Static
from kernels.xla.linear import wide


def forward(static: Static, *arrays: Any) -> jax.Array:
    """(x, scale, bias, residual) → y."""
    return forward_saving(static, *arrays)[0]


def forward_saving(
    static: Static,
    x: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array,
    residual: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    """→ y = act(z) and z = x · scale + bias + residual, both like x."""
    dtype = wide(x.dtype)
    z = x.astype(dtype)
    if scale is not None:
        z = z * scale.astype(dtype)
    z = z + bias.astype(dtype)
    if residual is not None:
        z = z + residual.astype(dtype)
    return activations.ACTIVATIONS[static.act].value(z).astype(x.dtype), z.astype(x.dtype)


def backward(
    static: Static,
    kept: jax.Array,
    x: jax.Array | None,
    scale: jax.Array | None,
    bias: jax.Array,
    dy: jax.Array,
) -> tuple[jax.Array, jax.Array | None, jax.Array, jax.Array | None]:
    """→ the gradients of x, scale, bias and residual; `kept` is y or z."""
    dtype = wide(dy.dtype)
    dz = dy.astype(dtype) * activations.slope(static.act, kept.astype(dtype))
    axes = tuple(range(dz.ndim - 1))
    dbias = dz.sum(axis=axes).astype(bias.dtype)
    rounded = dz.astype(dy.dtype)
    dresidual = rounded if static.residual else None
    if x is None or scale is None:
        return rounded, None, dbias, dresidual
    dscale = (dz * x.astype(dtype)).sum(axis=axes).astype(scale.dtype)
    return (dz * scale.astype(dtype)).astype(dy.dtype), dscale, dbias, dresidual


IMPLEMENTATION = dispatch.Implementation(
    "xla", {"forward": forward, "forward_saving": forward_saving, "backward": backward}
)
