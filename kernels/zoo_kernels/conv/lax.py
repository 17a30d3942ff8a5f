"""Convolution by lax's own, which jax differentiates in every mode."""

import jax

from zoo_kernels.core import convolution, dispatch
from zoo_kernels.core.linear_vjp import FORWARD, ConvSpec


def _unsupported(spec: ConvSpec, *arrays: jax.Array) -> str | None:
    return None if spec.algo in ("auto", "direct") else f"is direct, not {spec.algo}"


IMPLEMENTATION = dispatch.Implementation(
    dispatch.LAX, {FORWARD: convolution.direct}, unsupported=_unsupported
)
