"""Dense convolution as matrix products, accumulated in float32 (Chellapilla et al. 2006).

Forward and input gradient are one product with the kernel, over patches of x. The weight gradient
is a product for each tap of the kernel instead: it needs no copy of x that is kh·kw times as large.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from zoo_kernels.core import cpu
from zoo_kernels.core.convolution import slice_taps, transpose_linear
from zoo_kernels.core.dtypes import accumulation_dtype
from zoo_kernels.core.linear_vjp import ConvSpec
from zoo_kernels.core.window import Window

# A product of fewer rows is not worth a step of its own.
MIN_ROWS = 1024


def forward(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """(x, w) → y."""
    slices = _taps(spec.window, x)
    patches = slices[0] if len(slices) == 1 else jnp.concatenate(slices, axis=3)
    return _product(patches, w.reshape(-1, w.shape[3]), (3,), (0,))


def input_grad(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """(dy, w) → dx: the gradient of the patches, added up where they overlap."""
    window, channels = spec.window, w.shape[2]
    dtype = accumulation_dtype(dy.dtype)
    patches = _product(dy, w.reshape(-1, w.shape[3]), (3,), (1,), dtype)
    if window.kernel == window.strides == (1, 1) and not any(map(any, window.padding)):
        return patches.astype(dy.dtype)

    def gather(x: jax.Array) -> jax.Array:
        return jnp.concatenate(_taps(window, x), axis=3)

    return transpose_linear(gather, (dy.shape[0], *window.size, channels), patches).astype(dy.dtype)


def weight_grad(spec: ConvSpec, x: jax.Array, dy: jax.Array) -> jax.Array:
    """(x, dy) → dw."""
    # In two dimensions; of more XLA writes a transposed copy before the product.
    dy = dy.reshape(-1, dy.shape[3])
    slices = (tap.reshape(-1, tap.shape[3]) for tap in _taps(spec.window, x))
    products = [_product(tap, dy, (0,), (0,)) for tap in slices]
    return jnp.stack(products).reshape(*spec.window.kernel, x.shape[3], dy.shape[1])


def weight_grad_by_images(spec: ConvSpec, x: jax.Array, dy: jax.Array) -> jax.Array:
    """(x, dy) → dw, a few images at a time, of which a CPU's cache keeps what lies under each tap.

    An x that is sharded over devices has a lane on each, as in the depthwise weight gradient.
    """
    window = spec.window
    lanes = cpu.count_lanes(x.shape[0])
    images = x.shape[0] // lanes
    divisors = (n for n in range(1, images) if images % n == 0)
    step = next((n for n in divisors if n * math.prod(window.out) >= MIN_ROWS), images)
    if step == images or window.kernel == (1, 1):
        return weight_grad(spec, x, dy)
    dtype = accumulation_dtype(x.dtype)
    by_lane = [a.reshape(lanes, images, *a.shape[1:]) for a in (x, dy)]

    def add(state: tuple[jax.Array, list[jax.Array]]) -> tuple[jax.Array, list[jax.Array]]:
        first, sums = state
        parts = (lax.dynamic_slice_in_dim(a, first, step, axis=1) for a in by_lane)
        x, dy = (part.reshape(lanes * step, *part.shape[2:]) for part in parts)
        slices = slice_taps(window, cpu.pad(x, window.padding))
        dy = dy.reshape(lanes, -1, dy.shape[3])
        products = (
            _product(t.reshape(lanes, -1, t.shape[3]), dy, (1,), (1,), dtype, lanes=True)
            for t in slices
        )
        return first + cpu.as_index(step), [s + p for s, p in zip(sums, products, strict=True)]

    zeros = cpu.vary_like(jnp.zeros((lanes, x.shape[3], dy.shape[3]), dtype), x)
    start = cpu.as_index(0), [zeros] * math.prod(window.kernel)
    sums = lax.while_loop(lambda state: state[0] < cpu.as_index(images), add, start)[1]
    dw = jnp.stack(sums).sum(axis=1).astype(x.dtype)
    return dw.reshape(*window.kernel, x.shape[3], dy.shape[3])


def _taps(window: Window, x: jax.Array) -> list[jax.Array]:
    """For each tap of the kernel, what of x lies under it: [N, H', W', C]."""
    return list(slice_taps(window, jnp.pad(x, ((0, 0), *window.padding, (0, 0)))))


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
    product = lax.dot_general(
        a, b, ((a_axes, b_axes), batch), preferred_element_type=accumulation_dtype(a.dtype)
    )
    return product.astype(dtype or a.dtype)
