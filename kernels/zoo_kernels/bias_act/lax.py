"""Bias, residual and activation in plain jnp, which jax differentiates in every mode."""

from typing import Any

import jax
import jax.numpy as jnp

from zoo_kernels.bias_act import BiasActSpec, add_bias_residual
from zoo_kernels.core import dispatch
from zoo_kernels.core.activations import ACTIVATIONS, Elementwise


def _relu6(z: jax.Array) -> jax.Array:
    return jnp.where(z <= 0, 0, jnp.where(z >= 6, 6, z))


# Where jax's derivative at a kink is not that of the other implementations: of a maximum with 0 it
# takes the mean of both sides.
_VALUES: dict[str, Elementwise] = {
    "relu": lambda z: jnp.where(z <= 0, 0, z),
    "relu6": _relu6,
    "leaky_relu": lambda z: jnp.where(z > 0, z, 0.01 * z),
    "hard_sigmoid": lambda z: _relu6(z + 3) / 6,
}


def activate(act: str, z: jax.Array) -> jax.Array:
    """The activation of that name, with the derivatives at its kinks that `bias_act` has."""
    return _VALUES.get(act, ACTIVATIONS[act].value)(z)


def forward(spec: BiasActSpec, *arrays: Any) -> jax.Array:
    """(x, scale, bias, residual) → y."""
    return activate(spec.act, add_bias_residual(*arrays)).astype(arrays[0].dtype)


IMPLEMENTATION = dispatch.Implementation(dispatch.LAX, {"forward": forward})
