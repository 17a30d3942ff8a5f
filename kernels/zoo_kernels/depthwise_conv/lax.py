"""Depthwise convolution by lax's own grouped one, which jax differentiates in every mode."""

import jax

from zoo_kernels.bias_act import BiasActSpec
from zoo_kernels.bias_act import lax as bias_act
from zoo_kernels.core import convolution, dispatch
from zoo_kernels.core.linear_vjp import FORWARD, ConvSpec
from zoo_kernels.depthwise_conv import DepthwiseBiasActSpec


def _forward_bias_act(
    spec: DepthwiseBiasActSpec, x: jax.Array, w: jax.Array, bias: jax.Array
) -> jax.Array:
    y = convolution.direct(ConvSpec(spec.window), x, w)
    return bias_act.forward(BiasActSpec(spec.act, residual=False), y, None, bias, None)


CONV = dispatch.Implementation(dispatch.LAX, {FORWARD: convolution.direct})
CONV_BIAS_ACT = dispatch.Implementation(dispatch.LAX, {FORWARD: _forward_bias_act})
