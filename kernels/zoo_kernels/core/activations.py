"""Activations by name, and their derivatives."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Elementwise = Callable[[jax.Array], jax.Array]


class Activation(NamedTuple):
    """An elementwise function of z.

    Args:
      value: y = value(z).
      derivative_of_output: dy/dz as a function of y, where that is possible: then the backward pass
        keeps y, which the next layer keeps too, and z can be forgotten. None otherwise.
    """

    value: Elementwise
    derivative_of_output: Elementwise | None = None


def derivative(act: str, saved: jax.Array) -> jax.Array:
    """dy/dz, from y where the activation allows it and from z otherwise: see `keeps_output`."""
    value, derivative_of_output = ACTIVATIONS[act]
    if derivative_of_output is not None:
        return derivative_of_output(saved).astype(saved.dtype)
    return jax.jvp(value, (saved,), (jnp.ones_like(saved),))[1]


def derivative_at(act: str, z: jax.Array) -> jax.Array:
    """dy/dz from z."""
    return derivative(act, ACTIVATIONS[act].value(z) if keeps_output(act) else z)


def keeps_output(act: str) -> bool:
    """Whether the backward pass needs y (True) or z (False)."""
    return ACTIVATIONS[act].derivative_of_output is not None


def check_activation(op: str, act: str) -> None:
    """Raises ValueError where no activation has that name."""
    if act not in ACTIVATIONS:
        raise ValueError(f"{op}: act must be one of {', '.join(ACTIVATIONS)}, got {act!r}")


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(lambda z: z, jnp.ones_like),
    "relu": Activation(lambda z: jnp.maximum(z, 0), lambda y: y > 0),
    "relu6": Activation(lambda z: jnp.clip(z, 0, 6), lambda y: (y > 0) & (y < 6)),
    "leaky_relu": Activation(jax.nn.leaky_relu, lambda y: jnp.where(y > 0, 1.0, 0.01)),
    "elu": Activation(jax.nn.elu, lambda y: jnp.where(y > 0, 1.0, y + 1)),
    "sigmoid": Activation(jax.nn.sigmoid, lambda y: y * (1 - y)),
    "tanh": Activation(jnp.tanh, lambda y: 1 - y * y),
    "hard_sigmoid": Activation(
        jax.nn.hard_sigmoid,
        lambda y: jnp.where((y > 0) & (y < 1), jnp.asarray(1 / 6, y.dtype), 0),
    ),
    "hard_swish": Activation(jax.nn.hard_swish),
    "silu": Activation(jax.nn.silu),
    "gelu": Activation(lambda z: jax.nn.gelu(z, approximate=True)),
    "gelu_exact": Activation(lambda z: jax.nn.gelu(z, approximate=False)),
}
