"""Depthwise convolution by XLA.

On a CPU, XLA's grouped convolution was measured to take 20 to 350 times as long as PyTorch's
depthwise one, so there the three passes are sums of shifted products, which XLA vectorises over
channels. Elsewhere (cuDNN, TPUs) the compiler's own convolution is used.

Channels: with a multiplier m the arrays carry a trailing axis of m, [N, H, W, C, m]; without one
they stay [N, H, W, C]. The sums broadcast over whatever follows the two spatial axes.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from kernels import dispatch
from kernels.bilinear import FORWARD, INPUT_GRAD, WEIGHT_GRAD, Static
from kernels.window import Pair
from kernels.xla import linear

# A kernel with more rows than this is walked row by row at run time: unrolling all of its taps
# would make a computation that takes XLA minutes to compile.
UNROLLED_ROWS = 9


def forward(static: Static, x: jax.Array, w: jax.Array) -> jax.Array:
    """(x, w) → y."""
    window, m = static.window, _multiplier(static, w.shape[3])
    if m > 1:
        x = x[..., None]
    y = _correlate(
        x, _taps(w, m), window.strides, window.padding, window.dilation, linear.wide(x.dtype)
    )
    return y.astype(x.dtype).reshape(*y.shape[:3], w.shape[3])


def input_grad(static: Static, dy: jax.Array, w: jax.Array) -> jax.Array:
    """(dy, w) → dx, by sub-pixel phases.

    With stride s, dx[s·q + r] takes only the taps i with (r + padding − i·dilation) divisible by
    s. They are every (s / gcd(s, dilation))-th tap, so each of the phases r is an ordinary
    correlation of dy with a part of the turned kernel, and no zero is multiplied.
    """
    window, m = static.window, _multiplier(static, w.shape[3])
    taps = _taps(w, m)
    if m > 1:
        dy = dy.reshape(*dy.shape[:3], window.groups, m)
    (sh, sw), (qh, qw) = window.strides, _quotients(window.size, window.strides)
    rows = [_phase(static, 0, r) for r in range(sh)]
    columns = [_phase(static, 1, r) for r in range(sw)]
    dtype = linear.wide(dy.dtype)

    def phase(r: int, c: int) -> jax.Array:
        (row_taps, row_pads, row_step), (col_taps, col_pads, col_step) = rows[r], columns[c]
        if row_taps is None or col_taps is None:
            return jnp.zeros((dy.shape[0], qh, qw, *dy.shape[3:]), dtype)
        part = jnp.flip(taps[row_taps, col_taps], (0, 1))
        return _correlate(dy, part, (1, 1), (row_pads, col_pads), (row_step, col_step), dtype)

    grid = [[phase(r, c) for c in range(sw)] for r in range(sh)]
    dx = _interleave([_interleave(line, axis=2) for line in grid], axis=1)
    dx = dx[:, : window.size[0], : window.size[1]]
    if m > 1:
        dx = dx.sum(axis=4)
    return dx.astype(dy.dtype)


def weight_grad(static: Static, x: jax.Array, dy: jax.Array) -> jax.Array:
    """(x, dy) → dw, walking the rows of dy.

    Each row of dy multiplies the strips of x under it into accumulators of one row's size, one a
    tap, which stay in the cache; only at the end are they summed along the row.
    """
    window, m = static.window, _multiplier(static, dy.shape[3])
    (kh, kw), (ho, wo) = window.kernel, window.out
    (sh, sw), (dh, dw) = window.strides, window.dilation
    dtype = linear.wide(x.dtype)
    if dy.size == 0:
        return jnp.zeros((kh, kw, 1, dy.shape[3]), x.dtype)
    x = _pad(x, window.padding)
    if m > 1:
        x, dy = x[..., None], dy.reshape(*dy.shape[:3], window.groups, m)

    def walk(kernel_rows: Sequence[int | jax.Array]) -> jax.Array:
        """The gradients of some rows of the kernel, [rows, kw, …]."""

        def add(t: jax.Array, sums: list[jax.Array]) -> list[jax.Array]:
            image, r = t // ho, t % ho
            over = _row(dy, image, r).astype(dtype)
            under = [_row(x, image, r * sh + i * dh).astype(dtype) for i in kernel_rows]
            strips = [
                lax.slice_in_dim(row, j * dw, j * dw + (wo - 1) * sw + 1, sw)
                for row in under
                for j in range(kw)
            ]
            return [total + strip * over for total, strip in zip(sums, strips, strict=True)]

        zeros = [jnp.zeros(dy.shape[2:], dtype)] * (len(kernel_rows) * kw)
        sums = jnp.stack(lax.fori_loop(0, dy.shape[0] * ho, add, zeros))
        return sums.sum(axis=1).reshape(len(kernel_rows), kw, *sums.shape[2:])

    if kh > UNROLLED_ROWS:
        taps = lax.map(lambda i: walk([i])[0], jnp.arange(kh))
    else:
        taps = walk(range(kh))
    return taps.reshape(kh, kw, 1, window.groups * m).astype(x.dtype)


def _correlate(
    x: jax.Array,
    taps: jax.Array,
    strides: Pair,
    padding: tuple[Pair, Pair],
    dilation: Pair,
    dtype: jnp.dtype,
) -> jax.Array:
    """Sum over taps [kh, kw, …] of shifted, strided slices of x [N, H, W, …] times the tap."""
    x, taps = _pad(x, padding), taps.astype(dtype)
    (kh, kw), (sh, sw), (dh, dw) = taps.shape[:2], strides, dilation
    # From the first row or column that a tap reads to the last.
    height, width = (
        (n - (k - 1) * d - 1) // s * s + 1
        for n, k, d, s in zip(x.shape[1:3], (kh, kw), dilation, strides, strict=True)
    )

    def add_row(i: int | jax.Array, total: jax.Array) -> jax.Array:
        if isinstance(i, int):
            band = lax.slice_in_dim(x, i * dh, i * dh + height, sh, axis=1)
            row = lax.index_in_dim(taps, i, keepdims=False)
        else:
            band = lax.dynamic_slice_in_dim(x, i * dh, height, axis=1)[:, ::sh]
            row = lax.dynamic_index_in_dim(taps, i, keepdims=False)
        for j in range(kw):
            strip = lax.slice_in_dim(band, j * dw, j * dw + width, sw, axis=2)
            total += strip.astype(dtype) * lax.index_in_dim(row, j, keepdims=False)
        return total

    ho, wo = (height - 1) // sh + 1, (width - 1) // sw + 1
    total = jnp.zeros(
        (x.shape[0], ho, wo, *jnp.broadcast_shapes(x.shape[3:], taps.shape[2:])), dtype
    )
    if kh > UNROLLED_ROWS:
        return lax.fori_loop(0, kh, add_row, total)
    return functools.reduce(lambda total, i: add_row(i, total), range(kh), total)


def _phase(static: Static, axis: int, r: int) -> tuple[slice | None, Pair, int]:
    """The taps of one phase on one axis, and the padding and dilation to correlate dy with."""
    window = static.window
    size, k, s = window.size[axis], window.kernel[axis], window.strides[axis]
    low, d = window.padding[axis][0], window.dilation[axis]
    step = s // math.gcd(s, d)
    first = next((i for i in range(min(step, k)) if (r + low - i * d) % s == 0), None)
    if first is None:
        return None, (0, 0), 1
    last = range(first, k, step)[-1]
    count, spread = (last - first) // step + 1, d * step // s
    before = -((r + low - last * d) // s)
    after = -(-size // s) + (count - 1) * spread - before - window.out[axis]
    return slice(first, last + 1, step), (before, after), spread


def _quotients(size: Pair, strides: Pair) -> Pair:
    return -(-size[0] // strides[0]), -(-size[1] // strides[1])


def _interleave(phases: list[jax.Array], axis: int) -> jax.Array:
    """[a0, a1, …], [b0, b1, …] → [a0, b0, a1, b1, …] along an axis."""
    if len(phases) == 1:
        return phases[0]
    shape = list(phases[0].shape)
    shape[axis] *= len(phases)
    return jnp.stack(phases, axis=axis + 1).reshape(shape)


def _multiplier(static: Static, outputs: int) -> int:
    return outputs // static.window.groups


def _taps(w: jax.Array, m: int) -> jax.Array:
    """[kh, kw, 1, C·m] → [kh, kw, C] or [kh, kw, C, m]."""
    return w.reshape(*w.shape[:2], -1, m) if m > 1 else w[:, :, 0]


def _pad(x: jax.Array, padding: tuple[Pair, Pair]) -> jax.Array:
    """Pads, or crops where negative, once; the barrier keeps XLA from redoing it for each tap."""
    config = [(0, 0, 0), *((low, high, 0) for low, high in padding), *[(0, 0, 0)] * (x.ndim - 3)]
    if not any(low or high for low, high, _ in config):
        return x
    return lax.optimization_barrier(lax.pad(x, jnp.zeros((), x.dtype), config))


def _row(x: jax.Array, image: jax.Array, row: int | jax.Array) -> jax.Array:
    """x[image, row] as one dynamic slice."""
    zero = (0,) * (x.ndim - 2)
    return lax.dynamic_slice(x, (image, row, *zero), (1, 1, *x.shape[2:]))[0, 0]


def _on_cpu(
    fast: Callable[..., jax.Array], usual: Callable[..., jax.Array]
) -> Callable[..., jax.Array]:
    def pass_(static: Static, a: jax.Array, b: jax.Array) -> jax.Array:
        return lax.platform_dependent(
            a,
            b,
            cpu=lambda a, b: fast(static, a, b),
            default=lambda a, b: usual(static, a, b),
        )

    return pass_


IMPLEMENTATION = dispatch.Implementation(
    "xla",
    {
        FORWARD: _on_cpu(forward, linear.direct),
        INPUT_GRAD: _on_cpu(input_grad, lambda *a: linear.input_grad(linear.direct, *a)),
        WEIGHT_GRAD: _on_cpu(weight_grad, lambda *a: linear.weight_grad(linear.direct, *a)),
    },
)
