"""A convolution and its two gradients as three operators, closed under differentiation.

A convolution y = F(x, w) is linear in x and in w. Its input gradient dx = I(dy, w) and its weight
gradient dw = G(x, dy) are linear in both of theirs, and the gradients of any of the three are made
of the other two. So reverse mode of any order never leaves the fast formulations.
"""

import functools
from typing import Any, NamedTuple

import jax

from kernels import dispatch
from kernels.window import Window

FORWARD, INPUT_GRAD, WEIGHT_GRAD = "forward", "input_grad", "weight_grad"


class Static(NamedTuple):
    """A convolution's description for its implementations: its window, and the algorithm."""

    window: Window
    algo: str = "direct"


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def convolve(
    op: str, step: str, requested: dispatch.Requested, static: Static, a: jax.Array, b: jax.Array
) -> jax.Array:
    """One of an operator's three passes: (x, w) → y, (dy, w) → dx or (x, dy) → dw."""
    return dispatch.run(op, step, requested, static, a, b)


def _fwd(
    op: str, step: str, requested: dispatch.Requested, static: Static, a: jax.Array, b: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(op, step, requested, static, a, b), (a, b)


def _bwd(
    op: str, step: str, requested: dispatch.Requested, static: Static, saved: Any, t: jax.Array
) -> tuple[jax.Array, jax.Array]:
    a, b = saved
    do = functools.partial(convolve, op)
    if step == FORWARD:  # t is a dy
        return do(INPUT_GRAD, requested, static, t, b), do(WEIGHT_GRAD, requested, static, a, t)
    if step == INPUT_GRAD:  # t is an x
        return do(FORWARD, requested, static, t, b), do(WEIGHT_GRAD, requested, static, t, a)
    return do(INPUT_GRAD, requested, static, b, t), do(FORWARD, requested, static, a, t)


convolve.defvjp(_fwd, _bwd)
