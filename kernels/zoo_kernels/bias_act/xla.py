"""Bias, residual and activation by XLA, which fuses each pass into one loop.

Passes with sums take the compiler's `Reductions` first: `cpu` registers them with others.
"""

import functools
from typing import Any

import jax

from zoo_kernels.bias_act import BiasActSpec, add_bias_residual
from zoo_kernels.core import activations, dispatch
from zoo_kernels.core.dtypes import accumulation_dtype
from zoo_kernels.core.reductions import XLA, Reductions


def forward(spec: BiasActSpec, *arrays: Any) -> jax.Array:
    """(x, scale, bias, residual) → y."""
    return forward_saving_z(spec, *arrays)[0]


def forward_saving_y(reductions: Reductions, spec: BiasActSpec, *arrays: Any) -> jax.Array:
    """(x, scale, bias, residual) → y, for the backward pass too, which reads it in other shapes."""
    return reductions.materialize(forward(spec, *arrays))


def forward_saving_z(
    spec: BiasActSpec,
    x: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array,
    residual: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    """→ y = act(z) and z = x · scale + bias + residual, both like x."""
    z = add_bias_residual(x, scale, bias, residual)
    return activations.ACTIVATIONS[spec.act].value(z).astype(x.dtype), z.astype(x.dtype)


def backward(
    reductions: Reductions,
    spec: BiasActSpec,
    saved: jax.Array,
    x: jax.Array | None,
    scale: jax.Array | None,
    bias: jax.Array,
    dy: jax.Array,
) -> tuple[jax.Array, jax.Array | None, jax.Array, jax.Array | None]:
    """→ the gradients of x, scale, bias and residual; `saved` is y or z."""
    dtype = accumulation_dtype(dy.dtype)

    def compute_dz(dy: jax.Array, saved: jax.Array) -> jax.Array:
        return dy.astype(dtype) * activations.derivative(spec.act, saved.astype(dtype))

    def products(dy: jax.Array, saved: jax.Array, *x: jax.Array) -> list[jax.Array]:
        dz = compute_dz(dy, saved)
        return [dz, *(dz * each.astype(dtype) for each in x)]

    arrays = [dy, saved] if x is None else [dy, saved, x]
    dbias, *dscale = reductions.sum_rows(products, arrays)
    dz = compute_dz(dy, saved)
    dresidual = dz.astype(dy.dtype) if spec.residual else None
    if scale is None:
        return (
            reductions.materialize(dz.astype(dy.dtype)),
            None,
            dbias.astype(bias.dtype),
            dresidual,
        )
    dx = reductions.materialize((dz * scale.astype(dtype)).astype(dy.dtype))
    return dx, dscale[0].astype(scale.dtype), dbias.astype(bias.dtype), dresidual


def bind_passes(reductions: Reductions) -> dispatch.Passes:
    """The passes with a compiler's reductions."""
    return {
        "forward": forward,
        "forward_saving_y": functools.partial(forward_saving_y, reductions),
        "forward_saving_z": forward_saving_z,
        "backward": functools.partial(backward, reductions),
    }


IMPLEMENTATION = dispatch.Implementation("xla", bind_passes(XLA))
