"""Recomputes activations for a gradient in place of keeping them for it.

A convolution keeps its input for its weight gradient. Where that input came elementwise from an
array that is kept anyway, such as a normalised and activated one from what was normalised, to
recompute it is a pass over memory, and to keep it is as much memory again for the whole of a
training step: on a CPU, where the system clears that memory in every call, this costs more. On
other platforms it is kept.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from zoo_kernels.core import dispatch, jax_compat


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("value", "arrays"),
    meta_fields=("function",),
)
@dataclasses.dataclass(frozen=True)
class RecomputableArray:
    """An array, and how to compute it again; `conv` and `depthwise_conv` take it as their x.

    Args:
      value: the array.
      function: (*arrays) → value; elementwise, so that it costs one pass over memory.
      arrays: operands that are kept anyway. A convolution gives its gradient to the value, and
        none to them.
    """

    value: jax.Array
    function: Callable[..., jax.Array]
    arrays: tuple[jax.Array, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The value's shape."""
        return self.value.shape

    def astype(self, dtype: Any) -> "jax.Array | RecomputableArray":
        """Itself for its own dtype; for another one a plain array, which is kept."""
        return self if self.value.dtype == jnp.dtype(dtype) else self.value.astype(dtype)


def split_recomputable(
    x: jax.Array | RecomputableArray,
) -> tuple[jax.Array, RecomputableArray | None]:
    """Gives an array, and how to recompute it if that is known."""
    return (x.value, x) if isinstance(x, RecomputableArray) else (x, None)


def recompute(
    function: Callable[..., jax.Array],
    arrays: tuple[jax.Array, ...],
    value: jax.Array,
    t: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """→ function(*arrays) and the cotangent t on a CPU; elsewhere the value that was kept, and t.

    The barrier keeps XLA from beginning before t is there, and so from keeping the result; and
    from seeing that it has computed it before.
    """

    def compute(value: jax.Array, t: jax.Array, *arrays: jax.Array) -> tuple[jax.Array, jax.Array]:
        *operands, t = jax_compat.barrier((*arrays, t))
        return function(*operands), t

    def keep(value: jax.Array, t: jax.Array, *arrays: jax.Array) -> tuple[jax.Array, jax.Array]:
        return value, t

    with jax_compat.standard_promotion():
        results: tuple[jax.Array, jax.Array] = dispatch.select_by_platform(
            value, t, *arrays, default=keep, cpu=compute
        )
    return results
