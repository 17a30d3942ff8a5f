"""Bias, residual and activation by XLA, which fuses each pass into one loop."""

from typing import Any

import jax

from zoo_kernels.bias_act import BiasActSpec
from zoo_kernels.core import activations, cpu, dispatch
from zoo_kernels.core.linear import wide


def forward(spec: BiasActSpec, *arrays: Any) -> jax.Array:
    """(x, scale, bias, residual) → y."""
    return forward_saving(spec, *arrays)[0]


def forward_kept(how: cpu.How, spec: BiasActSpec, *arrays: Any) -> jax.Array:
    """(x, scale, bias, residual) → y, for the backward pass too, which reads it in other shapes."""
    return how.once(forward(spec, *arrays))


def forward_saving(
    spec: BiasActSpec,
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
    return activations.ACTIVATIONS[spec.act].value(z).astype(x.dtype), z.astype(x.dtype)


def backward(
    how: cpu.How,
    spec: BiasActSpec,
    kept: jax.Array,
    x: jax.Array | None,
    scale: jax.Array | None,
    bias: jax.Array,
    dy: jax.Array,
) -> tuple[jax.Array, jax.Array | None, jax.Array, jax.Array | None]:
    """→ the gradients of x, scale, bias and residual; `kept` is y or z."""
    dtype = wide(dy.dtype)

    def slope(dy: jax.Array, kept: jax.Array) -> jax.Array:
        return dy.astype(dtype) * activations.slope(spec.act, kept.astype(dtype))

    def products(dy: jax.Array, kept: jax.Array, *x: jax.Array) -> list[jax.Array]:
        dz = slope(dy, kept)
        return [dz, *(dz * each.astype(dtype) for each in x)]

    arrays = [dy, kept] if x is None else [dy, kept, x]
    dbias, *dscale = how.sums(products, arrays)
    dz = slope(dy, kept)
    dresidual = dz.astype(dy.dtype) if spec.residual else None
    if scale is None:
        return how.once(dz.astype(dy.dtype)), None, dbias.astype(bias.dtype), dresidual
    dx = how.once((dz * scale.astype(dtype)).astype(dy.dtype))
    return dx, dscale[0].astype(scale.dtype), dbias.astype(bias.dtype), dresidual


IMPLEMENTATION = dispatch.Implementation(
    "xla",
    {
        "forward": forward,
        "forward_kept": cpu.by_platform(forward_kept),
        "forward_saving": forward_saving,
        "backward": cpu.by_platform(backward),
    },
)
