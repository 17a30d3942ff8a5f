"""Input gradients of strided convolutions as correlations without strides (Shi et al. 2016)."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from zoo_kernels.core.dtypes import accumulation_dtype
from zoo_kernels.core.window import Pair, Window

# correlate(x, taps, strides, padding, dilation, dtype to accumulate in)
Correlate = Callable[[jax.Array, jax.Array, Pair, tuple[Pair, Pair], Pair, jnp.dtype], jax.Array]


def input_grad(
    window: Window,
    dy: jax.Array,
    taps: jax.Array,
    channels: tuple[int, ...],
    correlate: Correlate,
) -> jax.Array:
    """(dy, taps [kh, kw, …]) → dx [N, H, W, *channels], by sub-pixel phases.

    With stride s, dx[s·q + r] takes only the taps i with (r + padding − i·dilation) divisible by
    s. They are every (s / gcd(s, dilation))-th tap, so each of the phases r is an ordinary
    correlation of dy with a part of the flipped kernel, and no zero is multiplied.
    """
    sh, sw = window.strides
    qh, qw = (-(-n // s) for n, s in zip(window.size, window.strides, strict=True))
    rows = [_phase(window, 0, r) for r in range(sh)]
    columns = [_phase(window, 1, r) for r in range(sw)]
    dtype = accumulation_dtype(dy.dtype)

    def correlate_phase(r: int, c: int) -> jax.Array:
        (row_taps, row_pads, row_dilation), (col_taps, col_pads, col_dilation) = rows[r], columns[c]
        if row_taps is None or col_taps is None:
            return jnp.zeros((dy.shape[0], qh, qw, *channels), dtype)
        part = jnp.flip(taps[row_taps, col_taps], (0, 1))
        dilation = row_dilation, col_dilation
        return correlate(dy, part, (1, 1), (row_pads, col_pads), dilation, dtype)

    grid = [[correlate_phase(r, c) for c in range(sw)] for r in range(sh)]
    dx = _interleave([_interleave(row, axis=2) for row in grid], axis=1)
    return dx[:, : window.size[0], : window.size[1]]


def _phase(window: Window, axis: int, r: int) -> tuple[slice | None, Pair, int]:
    """The taps of one phase on one axis, and the padding and dilation to correlate dy with."""
    size, k, s = window.size[axis], window.kernel[axis], window.strides[axis]
    low, d = window.padding[axis][0], window.dilation[axis]
    step = s // math.gcd(s, d)
    first = next((i for i in range(min(step, k)) if (r + low - i * d) % s == 0), None)
    if first is None:
        return None, (0, 0), 1
    last = range(first, k, step)[-1]
    count, dilation = (last - first) // step + 1, d * step // s
    before = -((r + low - last * d) // s)
    after = -(-size // s) + (count - 1) * dilation - before - window.out[axis]
    return slice(first, last + 1, step), (before, after), dilation


def _interleave(phases: list[jax.Array], axis: int) -> jax.Array:
    """[a0, a1, …], [b0, b1, …] → [a0, b0, a1, b1, …] along an axis."""
    if len(phases) == 1:
        return phases[0]
    shape = list(phases[0].shape)
    shape[axis] *= len(phases)
    return jnp.stack(phases, axis=axis + 1).reshape(shape)
