"""Convolution by the compiler's own (cuDNN's on an NVIDIA GPU), or by a requested algorithm."""

import functools
from typing import Any

import jax

from zoo_kernels.conv import fft, gemm, grouped, winograd
from zoo_kernels.core import convolution, dispatch
from zoo_kernels.core.linear_vjp import FORWARD, INPUT_GRAD, WEIGHT_GRAD, ConvSpec

PASS_NAMES = (FORWARD, INPUT_GRAD, WEIGHT_GRAD)


def _passes(module: Any) -> convolution.Passes:
    return {
        FORWARD: module.forward,
        INPUT_GRAD: module.input_grad,
        WEIGHT_GRAD: module.weight_grad,
    }


# The passes of dense convolutions, by algorithm.
DENSE = {"gemm": _passes(gemm), "winograd": _passes(winograd), "fft": _passes(fft)}


def _run(pass_name: str, spec: ConvSpec, a: jax.Array, b: jax.Array) -> jax.Array:
    if spec.algo in ("auto", "direct"):
        return convolution.DIRECT[pass_name](spec, a, b)
    return grouped.run_dense(pass_name, DENSE[spec.algo][pass_name], spec, a, b)


def unsupported(spec: ConvSpec, *arrays: jax.Array) -> str | None:
    """The reason why the call cannot be done, or None."""
    return winograd.unsupported(spec) if spec.algo == "winograd" else None


def _describe(pass_name: str, spec: ConvSpec, *arrays: jax.Array) -> str:
    return "direct" if spec.algo == "auto" else f"{spec.algo}, as requested"


IMPLEMENTATION = dispatch.Implementation(
    "xla",
    {pass_name: functools.partial(_run, pass_name) for pass_name in PASS_NAMES},
    unsupported=unsupported,
    describe=_describe,
)
