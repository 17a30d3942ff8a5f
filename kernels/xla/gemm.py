"""Dense convolution as matrix products, accumulated in float32 (Chellapilla et al. 2006).

Forward and input gradient are one product with the kernel, over patches of x. The weight gradient
is a product for each tap of the kernel instead: it needs no copy of x that is kh·kw times as large.
"""

import jax
import jax.numpy as jnp
from jax import lax

from kernels.bilinear import Static
from kernels.window import Window
from kernels.xla.linear import taps, transposed, wide


def forward(static: Static, x: jax.Array, w: jax.Array) -> jax.Array:
    """(x, w) → y."""
    under = _taps(static.window, x)
    patches = under[0] if len(under) == 1 else jnp.concatenate(under, axis=3)
    return _product(patches, w.reshape(-1, w.shape[3]), (3,), (0,))


def input_grad(static: Static, dy: jax.Array, w: jax.Array) -> jax.Array:
    """(dy, w) → dx: the gradient of the patches, added up where they overlap."""
    window, channels = static.window, w.shape[2]
    dtype = wide(dy.dtype)
    patches = _product(dy, w.reshape(-1, w.shape[3]), (3,), (1,), dtype)
    if window.kernel == window.strides == (1, 1) and not any(map(any, window.padding)):
        return patches.astype(dy.dtype)

    def gather(x: jax.Array) -> jax.Array:
        return jnp.concatenate(_taps(window, x), axis=3)

    return transposed(gather, (dy.shape[0], *window.size, channels), patches).astype(dy.dtype)


def weight_grad(static: Static, x: jax.Array, dy: jax.Array) -> jax.Array:
    """(x, dy) → dw."""
    # Of two dimensions, lest XLA writes a transposed copy before the product.
    dy = dy.reshape(-1, dy.shape[3])
    under = (tap.reshape(-1, tap.shape[3]) for tap in _taps(static.window, x))
    products = [_product(tap, dy, (0,), (0,)) for tap in under]
    return jnp.stack(products).reshape(*static.window.kernel, x.shape[3], dy.shape[1])


def _taps(window: Window, x: jax.Array) -> list[jax.Array]:
    """For each tap of the kernel, what of x lies under it: [N, H', W', C]."""
    return list(taps(window, jnp.pad(x, ((0, 0), *window.padding, (0, 0)))))


def _product(
    a: jax.Array,
    b: jax.Array,
    a_axes: tuple[int, ...],
    b_axes: tuple[int, ...],
    dtype: jnp.dtype | None = None,
) -> jax.Array:
    """Contracts axes of a and b in float32 or better; the result is of a's dtype, or of `dtype`."""
    product = lax.dot_general(
        a, b, ((a_axes, b_axes), ((), ())), preferred_element_type=wide(a.dtype)
    )
    return product.astype(dtype or a.dtype)
