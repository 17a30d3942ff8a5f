"""Values that are computed again for a gradient in place of being kept for it.

What a convolution reads it keeps for its weight gradient. Where that came elementwise from an array
that is kept anyway, such as a normalised and activated one from what was normalised, computing it
again is a pass over memory, and keeping it is as much memory again for the whole of a step: on a
CPU, where the system clears that memory in every call, the dearer of the two. On a GPU it is kept.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from zoo_kernels.core import dispatch


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("value", "arrays"),
    meta_fields=("function",),
)
@dataclasses.dataclass(frozen=True)
class RecomputableArray:
    """An array, and how it came about; `conv` and `depthwise_conv` take it as their x.

    Args:
      value: the array.
      function: (*arrays) → value; elementwise, so that it costs one pass over memory.
      arrays: what is kept anyway. No gradient comes back to them from who reads this, as they are
        the value's.
    """

    value: jax.Array
    function: Callable[..., jax.Array]
    arrays: tuple[jax.Array, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's."""
        return self.value.shape

    def astype(self, dtype: Any) -> "jax.Array | RecomputableArray":
        """Itself; or of another dtype an array, which nothing makes again."""
        return self if self.value.dtype == jnp.dtype(dtype) else self.value.astype(dtype)


def parted(x: jax.Array | RecomputableArray) -> tuple[jax.Array, RecomputableArray | None]:
    """An array, and its source if it has one."""
    return (x.value, x) if isinstance(x, RecomputableArray) else (x, None)


def again(
    function: Callable[..., jax.Array],
    arrays: tuple[jax.Array, ...],
    value: jax.Array,
    t: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """→ function(*arrays) and t on a CPU, elsewhere the value that was kept and t.

    The barrier keeps XLA from beginning before t is there, and so from keeping what it makes; and
    from seeing that it has made it before.
    """

    def anew(value: jax.Array, t: jax.Array, *arrays: jax.Array) -> tuple[jax.Array, jax.Array]:
        *arrays_, t = lax.optimization_barrier((*arrays, t))
        return function(*arrays_), t

    def kept(value: jax.Array, t: jax.Array, *arrays: jax.Array) -> tuple[jax.Array, jax.Array]:
        return value, t

    both: tuple[jax.Array, jax.Array] = dispatch.by_platform(
        value, t, *arrays, default=kept, cpu=anew
    )
    return both
