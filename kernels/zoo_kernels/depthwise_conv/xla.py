"""Depthwise convolution by the compiler's own grouped one: cuDNN's on an NVIDIA GPU."""

import jax

from zoo_kernels.bias_act import BiasActSpec
from zoo_kernels.bias_act import xla as bias_act
from zoo_kernels.core import convolution, dispatch
from zoo_kernels.core.linear_vjp import FORWARD, ConvSpec
from zoo_kernels.depthwise_conv import DepthwiseBiasActSpec


def fuse_bias_act(conv: dispatch.Implementation) -> dispatch.Implementation:
    """Adds bias and activation to an implementation of the convolution, for XLA to fuse."""

    def forward(
        spec: DepthwiseBiasActSpec, x: jax.Array, w: jax.Array, bias: jax.Array
    ) -> jax.Array:
        y = conv.passes[FORWARD](ConvSpec(spec.window), x, w)
        return bias_act.forward(BiasActSpec(spec.act, residual=False), y, None, bias, None)

    def unsupported(
        spec: DepthwiseBiasActSpec, x: jax.Array, w: jax.Array, bias: jax.Array
    ) -> str | None:
        return conv.unsupported(ConvSpec(spec.window), x, w)

    return dispatch.Implementation(conv.name, {FORWARD: forward}, conv.platforms, unsupported)


CONV = dispatch.Implementation("xla", convolution.DIRECT)
CONV_BIAS_ACT = fuse_bias_act(CONV)
