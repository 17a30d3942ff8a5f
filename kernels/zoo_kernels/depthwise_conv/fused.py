"""Depthwise convolution, bias and activation: an implementation of the first, then XLA's others."""

import jax

from zoo_kernels import bias_act
from zoo_kernels.bias_act import xla as pointwise
from zoo_kernels.core import dispatch
from zoo_kernels.core.linear_vjp import FORWARD, Static
from zoo_kernels.depthwise_conv import Fused


def fused(convolution: dispatch.Implementation) -> dispatch.Implementation:
    """What XLA makes of the two together is for it to say: on a CPU they are one loop."""

    def forward(static: Fused, x: jax.Array, w: jax.Array, bias: jax.Array) -> jax.Array:
        y = convolution.passes[FORWARD](Static(static.window), x, w)
        return pointwise.forward(bias_act.Static(static.act, residual=False), y, None, bias, None)

    def refuses(static: Fused, x: jax.Array, w: jax.Array, bias: jax.Array) -> str | None:
        return convolution.refuses(Static(static.window), x, w)

    return dispatch.Implementation(
        convolution.name, {"forward": forward}, convolution.platforms, refuses
    )
