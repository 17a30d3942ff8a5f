"""Bias, residual and activation on an NVIDIA GPU, as a part of cuDNN's convolution.

XLA makes one kernel of a convolution in half precision, a bias, a residual and a ReLU if all of it
is in that type; cuDNN then adds in float32 and rounds once. Of a sum in float32 it makes a pass
over memory of its own. The bias is rounded to the type of x for it, as by PyTorch's autocast.
"""

from typing import Any

import jax

from zoo_kernels.bias_act import BiasActSpec, xla
from zoo_kernels.core import activations, dispatch

# Activations of which that of a rounded number is the activation, rounded.
ACTS = ("identity", "relu", "relu6")


def forward(
    spec: BiasActSpec, x: jax.Array, scale: Any, bias: jax.Array, residual: jax.Array | None
) -> jax.Array:
    """(x, None, bias, residual) → y."""
    z = x + bias.astype(x.dtype)
    z = z if residual is None else z + residual
    return activations.ACTIVATIONS[spec.act].value(z)


def unsupported(spec: BiasActSpec, *arrays: Any) -> str | None:
    """The reason why this is not for a call, or None."""
    x, with_scale, *_ = arrays  # or x, which the backward pass has for the scale alone
    if with_scale is not None:
        return "takes no scale"
    if x.dtype.itemsize != 2 or spec.act not in ACTS:
        return f"takes half precision with {', '.join(ACTS)}, got {x.dtype} with {spec.act}"
    if x.dtype.name == "float16" and spec.residual:
        return "takes no residual in float16, in which a part of the sum may overflow"
    return None


def defers(pass_name: str, spec: BiasActSpec, *arrays: Any) -> str | None:
    """The reason why XLA's formulation is the better default for a pass, or None."""
    return "is XLA's formulation" if pass_name == "backward" else None


IMPLEMENTATION = dispatch.Implementation(
    "cudnn",
    {
        **xla.IMPLEMENTATION.passes,
        **dispatch.with_gradients(
            {"forward": forward, "forward_saving_y": forward}, xla.IMPLEMENTATION.passes
        ),
    },
    platforms=("cuda",),
    unsupported=unsupported,
    defers=defers,
)
