"""A convolution and its two gradients as three operators, closed under differentiation.

A convolution y = F(x, w) is linear in x and in w. Its input gradient dx = I(dy, w) and its weight
gradient dw = G(x, dy) are linear in both of theirs, and the gradients of any of the three are made
of the other two. So reverse mode of any order never leaves the fast formulations.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from zoo_kernels.core import dispatch, sharding
from zoo_kernels.core.recompute import RecomputableArray, recompute
from zoo_kernels.core.window import Window

FORWARD, INPUT_GRAD, WEIGHT_GRAD = "forward", "input_grad", "weight_grad"


class ConvSpec(NamedTuple):
    """A convolution's description for its implementations: its window, and the algorithm."""

    window: Window
    algo: str = "auto"


def convolve(
    op: str,
    requested: dispatch.Requested,
    spec: ConvSpec,
    x: jax.Array,
    w: jax.Array,
    recomputable: RecomputableArray | None = None,
) -> jax.Array:
    """The convolution of x with w by an operator's implementations.

    Args:
      recomputable: how to compute x again for the gradients, in place of keeping it.
    """
    x, w = sharding.match_varying(x, w)
    requested, run = dispatch.resolve_call(op, requested, _run)
    if recomputable is None or run is not _run:  # jax itself keeps what it differentiates by
        y: jax.Array = run(op, FORWARD, requested, spec, x, w)
        return y
    function, arrays = recomputable.function, recomputable.arrays
    return _convolve_recomputable(op, requested, spec, function, arrays, x, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _run(
    op: str,
    pass_name: str,
    requested: dispatch.Requested,
    spec: ConvSpec,
    a: jax.Array,
    b: jax.Array,
) -> jax.Array:
    """One of the three passes: (x, w) → y, (dy, w) → dx or (x, dy) → dw."""
    batch = None if pass_name == WEIGHT_GRAD else sharding.partition_spec(a)[0]
    channels = None if pass_name == INPUT_GRAD else sharding.partition_spec(b)[3]

    def call(a: jax.Array, b: jax.Array) -> list[jax.Array]:
        return [dispatch.run_pass(op, pass_name, requested, spec, a, b)]

    return sharding.auto_shard(call, [(batch, None, None, channels)], a, b)[0]


def _fwd(
    op: str,
    pass_name: str,
    requested: dispatch.Requested,
    spec: ConvSpec,
    a: jax.Array,
    b: jax.Array,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _run(op, pass_name, requested, spec, a, b), (a, b)


def _bwd(
    op: str, pass_name: str, requested: dispatch.Requested, spec: ConvSpec, saved: Any, t: jax.Array
) -> tuple[jax.Array, jax.Array]:
    a, b = saved

    def run(pass_name: str, *arrays: jax.Array) -> jax.Array:
        return _run(op, pass_name, requested, spec, *arrays)

    if pass_name == FORWARD:  # t is a dy
        da, db = run(INPUT_GRAD, t, b), run(WEIGHT_GRAD, a, t)
    elif pass_name == INPUT_GRAD:  # t is an x
        da, db = run(FORWARD, t, b), run(WEIGHT_GRAD, t, a)
    else:  # t is a w
        da, db = run(INPUT_GRAD, b, t), run(FORWARD, a, t)
    return sharding.match_sharding(da, a), sharding.match_sharding(db, b)


_run.defvjp(_fwd, _bwd)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _convolve_recomputable(
    op: str,
    requested: dispatch.Requested,
    spec: ConvSpec,
    function: Callable[..., jax.Array],
    arrays: tuple[jax.Array, ...],
    x: jax.Array,
    w: jax.Array,
) -> jax.Array:
    """(x, w) → y, where x = function(*arrays)."""
    return _run(op, FORWARD, requested, spec, x, w)


def _recomputable_fwd(
    op: str, requested: dispatch.Requested, spec: ConvSpec, function: Any, *operands: Any
) -> tuple[jax.Array, Any]:
    return _convolve_recomputable(op, requested, spec, function, *operands), operands


def _recomputable_bwd(
    op: str, requested: dispatch.Requested, spec: ConvSpec, function: Any, saved: Any, t: jax.Array
) -> tuple[None, jax.Array, jax.Array]:
    arrays, x, w = saved
    x, t = recompute(function, arrays, x, t)
    return None, *_bwd(op, FORWARD, requested, spec, (x, w), t)


_convolve_recomputable.defvjp(_recomputable_fwd, _recomputable_bwd)
