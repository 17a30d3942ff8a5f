"""Depthwise convolution on a CPU, as sums of shifted products, which XLA vectorises over channels.

XLA's own grouped convolution was measured to take 20 to 350 times as long as PyTorch's depthwise
one.

Channels: with a multiplier m the arrays carry a trailing axis of m, [N, H, W, C, m]; without one
they stay [N, H, W, C]. The sums broadcast over whatever follows the two spatial axes.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from zoo_kernels.core import convolution, cpu, dispatch, subpixel
from zoo_kernels.core.dtypes import accumulation_dtype
from zoo_kernels.core.linear_vjp import FORWARD, INPUT_GRAD, WEIGHT_GRAD, ConvSpec
from zoo_kernels.core.subpixel import Correlate
from zoo_kernels.core.window import Pair
from zoo_kernels.depthwise_conv.xla import fuse_bias_act

# A kernel with more taps than this is looped over row by row at run time: unrolling all of its taps
# would make a computation that takes XLA minutes to compile.
UNROLLED_TAPS = 81
# The same for the products in one step of the weight gradient.
UNROLLED_PRODUCTS = 112


def correlate(
    x: jax.Array,
    taps: jax.Array,
    strides: Pair,
    padding: tuple[Pair, Pair],
    dilation: Pair,
    dtype: jnp.dtype,
) -> jax.Array:
    """Sum over taps [kh, kw, …] of shifted, strided slices of x [N, H, W, …] times the tap."""
    x, taps = cpu.pad(x, padding), taps.astype(dtype)
    (kh, kw), (sh, sw), (dh, dw) = taps.shape[:2], strides, dilation
    # From the first row or column that a tap reads to the last.
    height, width = (
        (n - (k - 1) * d - 1) // s * s + 1
        for n, k, d, s in zip(x.shape[1:3], (kh, kw), dilation, strides, strict=True)
    )
    n, channels = x.shape[0], x.shape[3:]
    zero = cpu.as_index(0)

    def add_row(total: jax.Array, row: cpu.UnsignedIndex, tap_row: cpu.UnsignedIndex) -> jax.Array:
        for j in range(kw):
            corner = (zero, row, cpu.as_index(j * dw), *[zero] * len(channels))
            strip = lax.dynamic_slice(x, corner, (n, height, width, *channels))[:, ::sh, ::sw]
            corner = (tap_row, cpu.as_index(j), *[zero] * (taps.ndim - 2))
            tap = lax.dynamic_slice(taps, corner, (1, 1, *taps.shape[2:]))[0, 0]
            total += strip.astype(dtype) * tap
        return total

    def step(_: int, state: Any) -> Any:
        total, row, tap_row = state
        return add_row(total, row, tap_row), row + cpu.as_index(dh), tap_row + cpu.as_index(1)

    ho, wo = (height - 1) // sh + 1, (width - 1) // sw + 1
    shape = (n, ho, wo, *jnp.broadcast_shapes(channels, taps.shape[2:]))
    total = cpu.vary_like(jnp.zeros(shape, dtype), x)
    if kh * kw > UNROLLED_TAPS:
        row = cpu.vary_like(zero, x)
        return lax.fori_loop(0, kh, step, (total, row, row))[0]
    for i in range(kh):
        total = add_row(total, cpu.as_index(i * dh), cpu.as_index(i))
    return total


def forward(
    spec: ConvSpec, x: jax.Array, w: jax.Array, correlate: Correlate = correlate
) -> jax.Array:
    """(x, w) → y."""
    window, m = spec.window, _multiplier(spec, w.shape[3])
    if m > 1:
        x = x[..., None]
    y = correlate(
        x, _taps(w, m), window.strides, window.padding, window.dilation, accumulation_dtype(x.dtype)
    )
    return y.astype(x.dtype).reshape(*y.shape[:3], w.shape[3])


def input_grad(
    spec: ConvSpec, dy: jax.Array, w: jax.Array, correlate: Correlate = correlate
) -> jax.Array:
    """(dy, w) → dx."""
    window, m = spec.window, _multiplier(spec, w.shape[3])
    if m > 1:
        dy = dy.reshape(*dy.shape[:3], window.groups, m)
    dx = subpixel.input_grad(window, dy, _taps(w, m), dy.shape[3:], correlate)
    if m > 1:
        dx = dx.sum(axis=4)
    return dx.astype(dy.dtype)


def weight_grad(spec: ConvSpec, x: jax.Array, dy: jax.Array) -> jax.Array:
    """(x, dy) → dw, by a loop over the rows of dy.

    A few rows of dy at a time multiply the strips of x under them into accumulators of one row's
    size, one a tap, which stay in the cache; only at the end are they summed along the row.

    The loop runs over the images of each lane, and all lanes advance together: one that is sharded
    over devices has a lane on each, so that no image leaves its device.
    """
    window, m = spec.window, _multiplier(spec, dy.shape[3])
    (kh, kw), (ho, wo) = window.kernel, window.out
    (sh, sw), (dh, dw) = window.strides, window.dilation
    dtype = accumulation_dtype(x.dtype)
    x = cpu.pad(x, window.padding)
    if m > 1:
        x, dy = x[..., None], dy.reshape(*dy.shape[:3], window.groups, m)
    lanes = cpu.count_lanes(x.shape[0])
    images = x.shape[0] // lanes
    x, dy = (a.reshape(lanes, images, *a.shape[1:]) for a in (x, dy))
    shape = (lanes, wo, *jnp.broadcast_shapes(x.shape[4:], dy.shape[4:]))

    def add_rows(
        rows: range, top: cpu.UnsignedIndex, kernel_rows: int, sums: list[jax.Array]
    ) -> Any:
        """Adds the products of some rows of dy, `rows.step` at a time, with x from row `top` on."""
        first_dy, first_x = cpu.as_index(rows.start), top + cpu.as_index(rows.start * sh)

        def add(_: int, state: Any) -> Any:
            image, dy_row, x_row, sums = state
            sums = list(sums)
            for tap, (i, j) in enumerate(itertools.product(range(kernel_rows), range(kw))):
                for r in range(rows.step):
                    dy_strip = _strip(dy, image, dy_row + cpu.as_index(r), 0, wo)
                    row = x_row + cpu.as_index(r * sh + i * dh)
                    x_strip = _strip(x, image, row, j * dw, (wo - 1) * sw + 1)[:, ::sw]
                    sums[tap] += x_strip.astype(dtype) * dy_strip.astype(dtype)
            dy_row += cpu.as_index(rows.step)
            done = dy_row >= cpu.as_index(rows.stop)
            return (
                image + done.astype(image.dtype),
                jnp.where(done, first_dy, dy_row),
                jnp.where(done, first_x, x_row + cpu.as_index(rows.step * sh)),
                sums,
            )

        start = (*(cpu.vary_like(row, x) for row in (cpu.as_index(0), first_dy, first_x)), sums)
        return lax.fori_loop(0, images * len(rows), add, start)[3]

    def sum_taps(top: cpu.UnsignedIndex, kernel_rows: int) -> jax.Array:
        """The gradients of some rows of the kernel, [rows, kw, …]."""
        sums = [cpu.vary_like(jnp.zeros(shape, dtype), x)] * (kernel_rows * kw)
        step = _rows_per_step(ho, len(sums))
        stop = ho // step * step
        for rows in (range(0, stop, step), range(stop, ho)):
            if rows:
                sums = add_rows(rows, top, kernel_rows, sums)
        return jnp.stack(sums).sum(axis=(1, 2)).reshape(kernel_rows, kw, *shape[2:])

    if kh * kw > UNROLLED_TAPS:
        tops = jnp.arange(kh, dtype=jnp.uint32) * cpu.as_index(dh)
        gradient = lax.map(lambda top: sum_taps(top, 1)[0], tops)
    else:
        gradient = sum_taps(cpu.as_index(0), kh)
    return gradient.reshape(kh, kw, 1, window.groups * m).astype(x.dtype)


def _rows_per_step(rows: int, taps: int) -> int:
    """How many rows of dy one step of the loop takes: up to 7, and few where taps are many.

    More of them make fewer and longer steps, but each is unrolled for each tap. A divisor of
    the number of rows leaves none over.
    """
    most = max(1, min(rows, UNROLLED_PRODUCTS // taps))
    divisors = (r for r in (4, 5, 6, 7, 3, 2) if r <= most and rows % r == 0)
    return next(divisors, min(most, 4))


def _multiplier(spec: ConvSpec, outputs: int) -> int:
    return outputs // spec.window.groups


def _taps(w: jax.Array, m: int) -> jax.Array:
    """[kh, kw, 1, C·m] → [kh, kw, C] or [kh, kw, C, m]."""
    return w.reshape(*w.shape[:2], -1, m) if m > 1 else w[:, :, 0]


def _strip(
    x: jax.Array, image: cpu.UnsignedIndex, row: cpu.UnsignedIndex, start: int, width: int
) -> jax.Array:
    """x[:, image, row, start : start + width] of every lane.

    Each strip is a slice of its own, at one use: XLA's CPU compiler vectorises a product of
    slices, but computes a slice that several products share anew for each element.
    """
    zero = cpu.as_index(0)
    channels = x.shape[4:]
    corner = (zero, image, row, cpu.as_index(start), *[zero] * len(channels))
    return lax.dynamic_slice(x, corner, (x.shape[0], 1, 1, width, *channels))[:, 0, 0]


PASSES: convolution.Passes = {
    FORWARD: forward,
    INPUT_GRAD: input_grad,
    WEIGHT_GRAD: weight_grad,
}
CONV = dispatch.Implementation("cpu", PASSES, platforms=("cpu",))
CONV_BIAS_ACT = fuse_bias_act(CONV)
