"""Other rules for the gradient of activations: guided backpropagation and deconvolution.

They apply to any model of the zoo, by intercepting the layers that hold an activation.
"""

import contextlib
import functools
from collections.abc import Collection, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp

from zoo.models.layers import Activation, BatchNorm, Conv, Dense
from zoo.surgery.intercept import Call, intercept
from zoo_kernels.core.activations import ACTIVATIONS, derivative_at

Rule = Literal["guided", "deconvnet", "revive"]

# Activations that let positive values pass. The others, such as the sigmoid that weighs channels in
# squeeze-and-excitation, keep their gradient: the rules say nothing of them.
RECTIFIERS = ("relu", "relu6", "leaky_relu", "elu", "hard_swish", "silu", "gelu", "gelu_exact")


@contextlib.contextmanager
def backward_rule(rule: Rule | None, layers: Collection[str] | None = None) -> Iterator[None]:
    """Replaces the gradient of rectifiers in models that are traced in the `with` block.

    With z the activation's input, y = f(z) and g the gradient that arrives at y:

    * "guided" passes f′(z) · g where g > 0, and 0 elsewhere (Springenberg et al. 2014, arXiv
      1412.6806).
    * "deconvnet" passes g where g > 0, and 0 elsewhere (Zeiler and Fergus 2013, arXiv 1311.2901).
    * "revive" passes f′(z) · g; but for an image of which that is 0 everywhere, g where it is above
      0 and z is not: what is wanted of dead units still arrives (lucid's redirected gradient).
    * None changes nothing.

    Args:
      rule: its name.
      layers: paths of layers; only rectifiers that are one of them, or in one, get the rule.

    Only inference can be intercepted: running statistics are not updated.
    """

    def apply_rule(call: Call) -> Any:
        layer = call.module
        if not isinstance(layer, Activation | BatchNorm | Conv | Dense):
            return call.run()
        if layer.act not in RECTIFIERS:
            return call.run()
        if layers is not None and not any(f"{call.path}/".startswith(f"{p}/") for p in layers):
            return call.run()
        # The same layer without its activation, as a module of its own.
        linear = layer.clone(act="identity", parent=None, name=None)
        z = linear.apply(layer.variables, *call.args, **call.kwargs)
        return activate(layer.act, rule, z)

    if rule is None:
        yield
    else:
        with intercept(apply_rule):
            yield


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def activate(act: str, rule: Rule, z: jax.Array) -> jax.Array:
    """f(z), with the gradient of a rule; see `backward_rule`."""
    return ACTIVATIONS[act].value(z)


def _forward(act: str, rule: Rule, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    return activate(act, rule, z), z


def _backward(act: str, rule: Rule, z: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    positive = jnp.maximum(g, 0)
    if rule == "revive":
        passed = g * derivative_at(act, z)
        alive = jnp.any(passed != 0, axis=tuple(range(1, z.ndim)), keepdims=True)
        return (jnp.where(alive, passed, jnp.where(z > 0, 0, positive)),)
    return (positive * derivative_at(act, z) if rule == "guided" else positive,)


activate.defvjp(_forward, _backward)
