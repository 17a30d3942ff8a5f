"""Depthwise convolution by XLA.

On a CPU, XLA's grouped convolution was measured to take 20 to 350 times as long as PyTorch's
depthwise one, so there the three passes are sums of shifted products, which XLA vectorises over
channels. Elsewhere (cuDNN, TPUs) the compiler's own convolution is used.

Channels: with a multiplier m the arrays carry a trailing axis of m, [N, H, W, C, m]; without one
they stay [N, H, W, C]. The sums broadcast over whatever follows the two spatial axes.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from zoo_kernels.core import cpu, dispatch, linear
from zoo_kernels.core.linear_vjp import FORWARD, INPUT_GRAD, WEIGHT_GRAD, ConvSpec
from zoo_kernels.core.window import Pair, Window

# A kernel with more taps than this is walked row by row at run time: unrolling all of its taps
# would make a computation that takes XLA minutes to compile.
UNROLLED_TAPS = 81
# The same for the products in one step of the weight gradient.
UNROLLED_PRODUCTS = 112


Correlate = Callable[[jax.Array, jax.Array, Pair, tuple[Pair, Pair], Pair, jnp.dtype], jax.Array]


def correlate(
    x: jax.Array,
    taps: jax.Array,
    strides: Pair,
    padding: tuple[Pair, Pair],
    dilation: Pair,
    dtype: jnp.dtype,
) -> jax.Array:
    """Sum over taps [kh, kw, …] of shifted, strided slices of x [N, H, W, …] times the tap."""
    x, taps = cpu.padded(x, padding), taps.astype(dtype)
    (kh, kw), (sh, sw), (dh, dw) = taps.shape[:2], strides, dilation
    # From the first row or column that a tap reads to the last.
    height, width = (
        (n - (k - 1) * d - 1) // s * s + 1
        for n, k, d, s in zip(x.shape[1:3], (kh, kw), dilation, strides, strict=True)
    )
    n, channels = x.shape[0], x.shape[3:]

    def add_row(total: jax.Array, row: cpu.Index, tap_row: cpu.Index) -> jax.Array:
        for j in range(kw):
            place = (cpu.index(0), row, cpu.index(j * dw), *[cpu.index(0)] * len(channels))
            strip = lax.dynamic_slice(x, place, (n, height, width, *channels))[:, ::sh, ::sw]
            place = (tap_row, cpu.index(j), *[cpu.index(0)] * (taps.ndim - 2))
            tap = lax.dynamic_slice(taps, place, (1, 1, *taps.shape[2:]))[0, 0]
            total += strip.astype(dtype) * tap
        return total

    def step(_: int, state: Any) -> Any:
        total, row, tap_row = state
        return add_row(total, row, tap_row), row + cpu.index(dh), tap_row + cpu.index(1)

    ho, wo = (height - 1) // sh + 1, (width - 1) // sw + 1
    shape = (n, ho, wo, *jnp.broadcast_shapes(channels, taps.shape[2:]))
    total = cpu.varying(jnp.zeros(shape, dtype), x)
    if kh * kw > UNROLLED_TAPS:
        zero = cpu.varying(cpu.index(0), x)
        return lax.fori_loop(0, kh, step, (total, zero, zero))[0]
    for i in range(kh):
        total = add_row(total, cpu.index(i * dh), cpu.index(i))
    return total


def forward(
    spec: ConvSpec, x: jax.Array, w: jax.Array, correlate: Correlate = correlate
) -> jax.Array:
    """(x, w) → y."""
    window, m = spec.window, _multiplier(spec, w.shape[3])
    if m > 1:
        x = x[..., None]
    y = correlate(
        x, _taps(w, m), window.strides, window.padding, window.dilation, linear.wide(x.dtype)
    )
    return y.astype(x.dtype).reshape(*y.shape[:3], w.shape[3])


def input_grad(
    spec: ConvSpec, dy: jax.Array, w: jax.Array, correlate: Correlate = correlate
) -> jax.Array:
    """(dy, w) → dx."""
    window, m = spec.window, _multiplier(spec, w.shape[3])
    if m > 1:
        dy = dy.reshape(*dy.shape[:3], window.groups, m)
    dx = by_phases(window, dy, _taps(w, m), dy.shape[3:], correlate)
    if m > 1:
        dx = dx.sum(axis=4)
    return dx.astype(dy.dtype)


def by_phases(
    window: Window,
    dy: jax.Array,
    taps: jax.Array,
    channels: tuple[int, ...],
    correlate: Correlate,
) -> jax.Array:
    """(dy, taps [kh, kw, …]) → dx [N, H, W, *channels], by sub-pixel phases.

    With stride s, dx[s·q + r] takes only the taps i with (r + padding − i·dilation) divisible by
    s. They are every (s / gcd(s, dilation))-th tap, so each of the phases r is an ordinary
    correlation of dy with a part of the turned kernel, and no zero is multiplied.
    """
    (sh, sw), (qh, qw) = window.strides, _quotients(window.size, window.strides)
    rows = [_phase(window, 0, r) for r in range(sh)]
    columns = [_phase(window, 1, r) for r in range(sw)]
    dtype = linear.wide(dy.dtype)

    def phase(r: int, c: int) -> jax.Array:
        (row_taps, row_pads, row_step), (col_taps, col_pads, col_step) = rows[r], columns[c]
        if row_taps is None or col_taps is None:
            return jnp.zeros((dy.shape[0], qh, qw, *channels), dtype)
        part = jnp.flip(taps[row_taps, col_taps], (0, 1))
        return correlate(dy, part, (1, 1), (row_pads, col_pads), (row_step, col_step), dtype)

    grid = [[phase(r, c) for c in range(sw)] for r in range(sh)]
    dx = _interleave([_interleave(line, axis=2) for line in grid], axis=1)
    return dx[:, : window.size[0], : window.size[1]]


def weight_grad(spec: ConvSpec, x: jax.Array, dy: jax.Array) -> jax.Array:
    """(x, dy) → dw, walking the rows of dy.

    A few rows of dy at a time multiply the strips of x under them into accumulators of one row's
    size, one a tap, which stay in the cache; only at the end are they summed along the row.

    The loop runs over the images of each lane, and all lanes advance together: one that is sharded
    over devices has a lane on each, so that no image leaves its device.
    """
    window, m = spec.window, _multiplier(spec, dy.shape[3])
    (kh, kw), (ho, wo) = window.kernel, window.out
    (sh, sw), (dh, dw) = window.strides, window.dilation
    dtype = linear.wide(x.dtype)
    x = cpu.padded(x, window.padding)
    if m > 1:
        x, dy = x[..., None], dy.reshape(*dy.shape[:3], window.groups, m)
    lanes = math.gcd(x.shape[0], cpu.devices())
    images = x.shape[0] // lanes
    x, dy = (a.reshape(lanes, images, *a.shape[1:]) for a in (x, dy))
    shape = (lanes, wo, *jnp.broadcast_shapes(x.shape[4:], dy.shape[4:]))

    def walk(rows: range, top: cpu.Index, kernel_rows: int, sums: list[jax.Array]) -> Any:
        """Adds what some rows of dy (its step: so many at a time) make of x from row `top` on."""
        above, below = cpu.index(rows.start), top + cpu.index(rows.start * sh)

        def add(_: int, state: Any) -> Any:
            image, over_row, under_row, sums = state
            sums = list(sums)
            for tap, (i, j) in enumerate(itertools.product(range(kernel_rows), range(kw))):
                for r in range(rows.step):
                    over = _strip(dy, image, over_row + cpu.index(r), 0, wo)
                    row = under_row + cpu.index(r * sh + i * dh)
                    under = _strip(x, image, row, j * dw, (wo - 1) * sw + 1)[:, ::sw]
                    sums[tap] += under.astype(dtype) * over.astype(dtype)
            over_row += cpu.index(rows.step)
            done = over_row >= cpu.index(rows.stop)
            return (
                image + done.astype(image.dtype),
                jnp.where(done, above, over_row),
                jnp.where(done, below, under_row + cpu.index(rows.step * sh)),
                sums,
            )

        start = (*(cpu.varying(row, x) for row in (cpu.index(0), above, below)), sums)
        return lax.fori_loop(0, images * len(rows), add, start)[3]

    def taps(top: cpu.Index, kernel_rows: int) -> jax.Array:
        """The gradients of some rows of the kernel, [rows, kw, …]."""
        sums = [cpu.varying(jnp.zeros(shape, dtype), x)] * (kernel_rows * kw)
        at_once = _rows_at_once(ho, len(sums))
        whole = ho // at_once * at_once
        for rows in (range(0, whole, at_once), range(whole, ho)):
            if rows:
                sums = walk(rows, top, kernel_rows, sums)
        return jnp.stack(sums).sum(axis=(1, 2)).reshape(kernel_rows, kw, *shape[2:])

    if kh * kw > UNROLLED_TAPS:
        tops = jnp.arange(kh, dtype=jnp.uint32) * cpu.index(dh)
        gradient = lax.map(lambda top: taps(top, 1)[0], tops)
    else:
        gradient = taps(cpu.index(0), kh)
    return gradient.reshape(kh, kw, 1, window.groups * m).astype(x.dtype)


def _rows_at_once(rows: int, taps: int) -> int:
    """How many rows of dy one step of the walk takes: up to 7, and few where taps are many.

    More of them make fewer and longer steps, but each is unrolled for each tap. A divisor of
    the number of rows leaves none over.
    """
    most = max(1, min(rows, UNROLLED_PRODUCTS // taps))
    fitting = (r for r in (4, 5, 6, 7, 3, 2) if r <= most and rows % r == 0)
    return next(fitting, min(most, 4))


def _phase(window: Window, axis: int, r: int) -> tuple[slice | None, Pair, int]:
    """The taps of one phase on one axis, and the padding and dilation to correlate dy with."""
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


def _multiplier(spec: ConvSpec, outputs: int) -> int:
    return outputs // spec.window.groups


def _taps(w: jax.Array, m: int) -> jax.Array:
    """[kh, kw, 1, C·m] → [kh, kw, C] or [kh, kw, C, m]."""
    return w.reshape(*w.shape[:2], -1, m) if m > 1 else w[:, :, 0]


def _strip(x: jax.Array, image: cpu.Index, row: cpu.Index, start: int, width: int) -> jax.Array:
    """x[:, image, row, start : start + width] of every lane.

    Each strip is a slice of its own, at one use: XLA's CPU compiler vectorises a product of
    slices, but computes a slice that several products share anew for each element.
    """
    zero = cpu.index(0)
    channels = x.shape[4:]
    place = (zero, image, row, cpu.index(start), *[zero] * len(channels))
    return lax.dynamic_slice(x, place, (x.shape[0], 1, 1, width, *channels))[:, 0, 0]


ON_CPU: dict[str, linear.Forward] = {
    FORWARD: forward,
    INPUT_GRAD: input_grad,
    WEIGHT_GRAD: weight_grad,
}


def _pass(step: str, usual: linear.Forward) -> linear.Forward:
    def run(spec: ConvSpec, a: jax.Array, b: jax.Array) -> jax.Array:
        return dispatch.by_platform(
            a,
            b,
            cpu=functools.partial(ON_CPU[step], spec),
            default=functools.partial(usual, spec),
        )

    return run


IMPLEMENTATION = dispatch.Implementation(
    "xla", {step: _pass(step, usual) for step, usual in linear.DIRECT.items()}
)
