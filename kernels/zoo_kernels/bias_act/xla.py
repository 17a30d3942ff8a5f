"""Bias, residual and activation by XLA, which fuses each pass into one loop.

Passes take the compiler's `Reductions` first: `cpu` registers them with others.
"""

import functools
from typing import Any

import jax

from zoo_kernels.bias_act import BiasActSpec, add_bias_residual
from zoo_kernels.core import activations, dispatch
from zoo_kernels.core.dtypes import accumulation_dtype
from zoo_kernels.core.reductions import XLA, Reductions


def forward(reductions: Reductions, spec: BiasActSpec, *arrays: Any) -> jax.Array:
    """(x, scale, bias, residual) → y."""
    return forward_saving_z(reductions, spec, *arrays)[0]


def forward_saving_y(reductions: Reductions, spec: BiasActSpec, *arrays: Any) -> jax.Array:
    """(x, scale, bias, residual) → y, for the backward pass too, which reads it in other shapes."""
    return reductions.materialize(forward(reductions, spec, *arrays))


def forward_saving_z(
    reductions: Reductions,
    spec: BiasActSpec,
    x: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array,
    residual: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    """→ y = act(z) and z = x · scale + bias + residual, both like x."""
    if reductions is XLA and scale is None and x.dtype.itemsize == 2 and _rounds_alike(spec.act):
        # On a GPU XLA makes one kernel of a convolution and this, which adds in float32 and rounds
        # once; but it does not of a convolution in half precision and a sum in float32.
        z = x + bias.astype(x.dtype)
        z = z if residual is None else z + residual
        return activations.ACTIVATIONS[spec.act].value(z), z
    z = add_bias_residual(x, scale, bias, residual)
    return activations.ACTIVATIONS[spec.act].value(z).astype(x.dtype), z.astype(x.dtype)


def _rounds_alike(act: str) -> bool:
    """Whether an activation of a rounded number is its activation, rounded."""
    return act in ("identity", "relu", "relu6")


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
        "forward": functools.partial(forward, reductions),
        "forward_saving_y": functools.partial(forward_saving_y, reductions),
        "forward_saving_z": functools.partial(forward_saving_z, reductions),
        "backward": functools.partial(backward, reductions),
    }


IMPLEMENTATION = dispatch.Implementation("xla", bind_passes(XLA))
