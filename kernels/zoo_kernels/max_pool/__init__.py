"""Max pooling."""

import functools
from collections.abc import Sequence
from typing import Any

import jax

from zoo_kernels.core import dispatch, sharding
from zoo_kernels.core.window import Padding, Window, resolve_pool

OP = "max_pool"


def max_pool(
    x: jax.Array,
    size: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    implementation: dispatch.Requested = None,
) -> jax.Array:
    """Takes the largest value of each window; padding never is the largest.

    Args:
      x: [N, H, W, C], floating point.
      size: of the windows, an integer or (height, width).
      strides: from window to window; None puts them side by side, so that they are `size`.
      padding: "SAME" (XLA's, the odd row or column last), "VALID", an integer, or
        ((top, bottom), (left, right)).
      dilation: from value to value inside a window.
      implementation: None chooses by platform, a name is strict, a sequence is tried in order.

    Returns:
      [N, H', W', C] of x's dtype; −inf where a window lies outside as a whole. Where x has a NaN,
      so has every window with it.

    Raises:
      ValueError: arguments that do not fit each other.
      NotImplementedError: the implementation asked for cannot do the call.

    Differentiable in reverse mode, to any order. A window's gradient goes to its largest value, and
    of equal ones to the first in the order of rows, as in PyTorch. One byte is kept for each output
    (four, from 128 values a window on), and not x.
    """
    x, window = resolve_pool(OP, x, size, size if strides is None else strides, padding, dilation)
    requested, call = dispatch.resolve_call(OP, implementation, _max_pool)
    y: jax.Array = call(window, requested, x)
    return y


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _max_pool(window: Window, requested: dispatch.Requested, x: jax.Array) -> jax.Array:
    return _run("forward", 1, window, requested, x)[0]


def _fwd(
    window: Window, requested: dispatch.Requested, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    y, indices = _run("forward_saving", 2, window, requested, x)
    return y, indices


def _bwd(
    window: Window, requested: dispatch.Requested, indices: jax.Array, dy: jax.Array
) -> tuple[jax.Array]:
    return (_run("backward", 1, window, requested, indices, dy)[0],)


_max_pool.defvjp(_fwd, _bwd)


def _run(
    pass_name: str, results: int, window: Window, requested: dispatch.Requested, *arrays: jax.Array
) -> Any:
    """Runs a pass; its results are sharded over images and channels as its last array is."""
    images, _, _, channels = sharding.partition_spec(arrays[-1])

    def call(*arrays: jax.Array) -> Any:
        return dispatch.run_pass(OP, pass_name, requested, window, *arrays)

    return sharding.auto_shard(call, [(images, None, None, channels)] * results, *arrays)
