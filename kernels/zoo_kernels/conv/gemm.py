"""Dense convolution as matrix products, accumulated in float32 (Chellapilla et al. 2006).

Forward and input gradient are one product with the kernel, over patches of x. The weight gradient
is a product for each tap of the kernel instead: it needs no copy of x that is kh·kw times as large.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from zoo_kernels.core import cpu
from zoo_kernels.core.linear import taps, transposed, wide
from zoo_kernels.core.linear_vjp import ConvSpec
from zoo_kernels.core.window import Window

# Rows of a product that make it worth a step of its own.
ENOUGH = 1024


def forward(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """(x, w) → y."""
    under = _taps(spec.window, x)
    patches = under[0] if len(under) == 1 else jnp.concatenate(under, axis=3)
    return _product(patches, w.reshape(-1, w.shape[3]), (3,), (0,))


def input_grad(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """(dy, w) → dx: the gradient of the patches, added up where they overlap."""
    window, channels = spec.window, w.shape[2]
    dtype = wide(dy.dtype)
    patches = _product(dy, w.reshape(-1, w.shape[3]), (3,), (1,), dtype)
    if window.kernel == window.strides == (1, 1) and not any(map(any, window.padding)):
        return patches.astype(dy.dtype)

    def gather(x: jax.Array) -> jax.Array:
        return jnp.concatenate(_taps(window, x), axis=3)

    return transposed(gather, (dy.shape[0], *window.size, channels), patches).astype(dy.dtype)


def weight_grad(spec: ConvSpec, x: jax.Array, dy: jax.Array) -> jax.Array:
    """(x, dy) → dw."""
    # Of two dimensions, lest XLA writes a transposed copy before the product.
    dy = dy.reshape(-1, dy.shape[3])
    under = (tap.reshape(-1, tap.shape[3]) for tap in _taps(spec.window, x))
    products = [_product(tap, dy, (0,), (0,)) for tap in under]
    return jnp.stack(products).reshape(*spec.window.kernel, x.shape[3], dy.shape[1])


def weight_grad_by_images(spec: ConvSpec, x: jax.Array, dy: jax.Array) -> jax.Array:
    """(x, dy) → dw, a few images at a time, of which a CPU's cache keeps what lies under each tap.

    An x that is sharded over devices has a lane on each, as in the depthwise weight gradient.
    """
    window = spec.window
    lanes = math.gcd(x.shape[0], cpu.devices())
    images = x.shape[0] // lanes
    fitting = (n for n in range(1, images) if images % n == 0)
    at_once = next((n for n in fitting if n * math.prod(window.out) >= ENOUGH), images)
    if at_once == images or window.kernel == (1, 1):
        return weight_grad(spec, x, dy)
    dtype = wide(x.dtype)
    by_lane = [a.reshape(lanes, images, *a.shape[1:]) for a in (x, dy)]

    def add(state: tuple[jax.Array, list[jax.Array]]) -> tuple[jax.Array, list[jax.Array]]:
        first, sums = state
        parts = (lax.dynamic_slice_in_dim(a, first, at_once, axis=1) for a in by_lane)
        x, dy = (part.reshape(lanes * at_once, *part.shape[2:]) for part in parts)
        under = taps(window, cpu.padded(x, window.padding))
        over = dy.reshape(lanes, -1, dy.shape[3])
        products = (
            _product(t.reshape(lanes, -1, t.shape[3]), over, (1,), (1,), dtype, lanes=True)
            for t in under
        )
        return first + cpu.index(at_once), [s + p for s, p in zip(sums, products, strict=True)]

    zeros = cpu.varying(jnp.zeros((lanes, x.shape[3], dy.shape[3]), dtype), x)
    start = cpu.index(0), [zeros] * math.prod(window.kernel)
    sums = lax.while_loop(lambda state: state[0] < cpu.index(images), add, start)[1]
    dw = jnp.stack(sums).sum(axis=1).astype(x.dtype)
    return dw.reshape(*window.kernel, x.shape[3], dy.shape[3])


def _taps(window: Window, x: jax.Array) -> list[jax.Array]:
    """For each tap of the kernel, what of x lies under it: [N, H', W', C]."""
    return list(taps(window, jnp.pad(x, ((0, 0), *window.padding, (0, 0)))))


def _product(
    a: jax.Array,
    b: jax.Array,
    a_axes: tuple[int, ...],
    b_axes: tuple[int, ...],
    dtype: jnp.dtype | None = None,
    lanes: bool = False,
) -> jax.Array:
    """Contracts axes of a and b in float32 or better; the result is of a's dtype, or of `dtype`."""
    batch = ((0,), (0,)) if lanes else ((), ())
    product = lax.dot_general(a, b, ((a_axes, b_axes), batch), preferred_element_type=wide(a.dtype))
    return product.astype(dtype or a.dtype)
