"""Max pooling by lax's reduction over windows, which jax differentiates in every mode."""

import jax
import jax.numpy as jnp
from jax import lax

from zoo_kernels.core import convolution, dispatch
from zoo_kernels.core.window import Window


def _forward(window: Window, x: jax.Array) -> jax.Array:
    """(x) → y."""
    padding = ((0, 0), *window.padding, (0, 0))
    if window.dilation == (1, 1):
        return lax.reduce_window(
            x, -jnp.inf, lax.max, (1, *window.kernel, 1), (1, *window.strides, 1), padding
        )
    # jax has no gradient of a dilated reduction.
    padded = lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), [(*sides, 0) for sides in padding])
    y, *others = convolution.slice_taps(window, padded)
    for value in others:
        y = jnp.where((value > y) | jnp.isnan(value), value, y)
    return y


IMPLEMENTATION = dispatch.Implementation(
    dispatch.LAX, {"forward": lambda window, x: [_forward(window, x)]}
)
