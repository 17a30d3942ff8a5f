"""Depthwise convolution, bias and activation: an implementation of the first, then XLA's others."""

import jax

from zoo_kernels.bias_act import BiasActSpec
from zoo_kernels.bias_act import xla as pointwise
from zoo_kernels.core import dispatch
from zoo_kernels.core.linear_vjp import FORWARD, ConvSpec
from zoo_kernels.depthwise_conv import DepthwiseBiasActSpec


def fused(convolution: dispatch.Implementation) -> dispatch.Implementation:
    """What XLA makes of the two together is for it to say: on a CPU they are one loop."""

    def forward(
        spec: DepthwiseBiasActSpec, x: jax.Array, w: jax.Array, bias: jax.Array
    ) -> jax.Array:
        y = convolution.passes[FORWARD](ConvSpec(spec.window), x, w)
        return pointwise.forward(BiasActSpec(spec.act, residual=False), y, None, bias, None)

    def refuses(
        spec: DepthwiseBiasActSpec, x: jax.Array, w: jax.Array, bias: jax.Array
    ) -> str | None:
        return convolution.refuses(ConvSpec(spec.window), x, w)

    return dispatch.Implementation(
        convolution.name, {"forward": forward}, convolution.platforms, refuses
    )
