"""Max pooling by shifted copies; its gradient by the index of each maximum in its window.

XLA's gradient of a maximum compares pairs of an index and a value in one more reduction over
windows, of arrays as large as x that it writes beforehand: on 2 cores that takes 10 to 60 times as
long as this (3x3 with strides 2, 8x112x112x64: 122 ms instead of 2 to 8). Here the forward pass
saves which value of its window was the largest, and the backward pass writes dx in one loop.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zoo_kernels.core import convolution, dispatch
from zoo_kernels.core.dtypes import accumulation_dtype
from zoo_kernels.core.window import Window


class Copies(NamedTuple):
    """How a compiler is given arrays of which several shifted parts are read.

    Args:
      pad: `pad(x, padding, value)` → [N, H, W, C] with that many more rows and columns.
      materialize: identity on an array.
    """

    pad: Callable[[jax.Array, Sequence[Sequence[int]], float], jax.Array]
    materialize: Callable[[jax.Array], jax.Array]


def _pad(x: jax.Array, padding: Sequence[Sequence[int]], value: float) -> jax.Array:
    config = [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)]
    return lax.pad(x, jnp.asarray(value, x.dtype), config)


# XLA's fusions for a GPU pad while they read.
XLA = Copies(_pad, lambda x: x)


def forward(copies: Copies, window: Window, x: jax.Array) -> list[jax.Array]:
    """(x) → y.

    Padded and strided, XLA's reduction was measured to be twice as fast on a CPU as the maximum of
    shifted copies, as the padding is a pass of its own; without, half to a fourth as fast.
    """
    if any(map(any, window.padding)) and window.strides != (1, 1):
        y = lax.reduce_window(
            x,
            -jnp.inf,
            lax.max,
            (1, *window.kernel, 1),
            (1, *window.strides, 1),
            ((0, 0), *window.padding, (0, 0)),
            window_dilation=(1, *window.dilation, 1),
        )
        return [y]
    first, *others = _tap_values(copies, window, x)
    for value in others:
        first = jnp.maximum(first, value)
    return [first]


def forward_saving(copies: Copies, window: Window, x: jax.Array) -> list[jax.Array]:
    """(x) → y, and the index of each maximum in its window, counted by rows."""
    y, *others = _tap_values(copies, window, x)
    # Where all of a window is −inf, its index is the first inside of x, not in the padding.
    row, column = (_first_tap_inside(window, axis) for axis in (0, 1))
    first = (row[:, None] * window.kernel[1] + column)[:, :, None]
    indices = jnp.broadcast_to(jnp.asarray(first, _index_dtype(window)), y.shape)
    for index, value in enumerate(others, start=1):
        larger = (value > y) | jnp.isnan(value)
        y = jnp.where(larger, value, y)
        indices = jnp.where(larger, indices.dtype.type(index), indices)
    return [y, indices]


def backward(copies: Copies, window: Window, indices: jax.Array, dy: jax.Array) -> list[jax.Array]:
    """(indices, dy) → dx.

    With strides s, row s·q + r of the padded dx meets row q − o of dy at the index i of its window
    where i · dilation = s·o + r. So dx is a sum over the few offsets o, written as an array
    [N, H/s, s, W/s, s, C] whose indices i are known for each phase r.
    """
    (sh, sw), (top, left) = window.strides, (pad[0] for pad in window.padding)
    qh, qw = (
        -(-(n + low) // s)
        for n, low, s in zip(window.size, (top, left), window.strides, strict=True)
    )
    rows, columns = (_indices_by_offset(window, axis) for axis in (0, 1))
    # Indices in the padding are −1, which no window's index is.
    padding = [
        (max(offsets), q - n)
        for offsets, q, n in zip((rows, columns), (qh, qw), window.out, strict=True)
    ]
    dtype = accumulation_dtype(dy.dtype)
    padded_dy, indices = copies.pad(dy, padding, 0), copies.pad(indices, padding, -1)

    def shift(array: jax.Array, row: int, column: int) -> jax.Array:
        """An array like dy, shifted by so many rows and columns: [N, qh, 1, qw, 1, C]."""
        start = (0, max(rows) - row, max(columns) - column, 0)
        shape = (array.shape[0], qh, qw, array.shape[3])
        part = lax.slice(array, start, [a + n for a, n in zip(start, shape, strict=True)])
        return part[:, :, None, :, None]

    dx = jnp.zeros((), dtype)
    for (row, i), (column, j) in itertools.product(rows.items(), columns.items()):
        index = np.where((i[:, None] < 0) | (j < 0), -2, i[:, None] * window.kernel[1] + j)
        phase_indices = jnp.asarray(index, indices.dtype)[:, None, :, None]
        is_largest = shift(indices, row, column) == phase_indices
        dx = dx + jnp.where(is_largest, shift(padded_dy, row, column).astype(dtype), 0)
    dx = dx.reshape(dy.shape[0], qh * sh, qw * sw, dy.shape[3])
    dx = dx[:, top : top + window.size[0], left : left + window.size[1]]
    return [dx.astype(dy.dtype)]


def _tap_values(copies: Copies, window: Window, x: jax.Array) -> Iterator[jax.Array]:
    """For each index in a window, by rows, the values of all windows."""
    overlapping = any(
        s < (k - 1) * d + 1
        for k, s, d in zip(window.kernel, window.strides, window.dilation, strict=True)
    )
    if any(map(any, window.padding)):
        x = copies.pad(x, window.padding, -math.inf)
    elif overlapping:
        x = copies.materialize(x)
    return convolution.slice_taps(window, x)


def _indices_by_offset(window: Window, axis: int) -> dict[int, np.ndarray]:
    """For each offset o of `backward`, the index i for each phase r on one axis, −1 for none."""
    k, s, d = window.kernel[axis], window.strides[axis], window.dilation[axis]
    offsets: dict[int, np.ndarray] = {}
    for i in range(k):
        offsets.setdefault(i * d // s, np.full(s, -1))[i * d % s] = i
    return offsets


def _first_tap_inside(window: Window, axis: int) -> np.ndarray:
    """For each output on one axis, the first index of its window that is not padding."""
    begins = np.arange(window.out[axis]) * window.strides[axis] - window.padding[axis][0]
    return np.clip(-(begins // window.dilation[axis]), 0, window.kernel[axis] - 1)


def _index_dtype(window: Window) -> type[np.signedinteger]:
    """The dtype of the indices in a window."""
    return np.int8 if math.prod(window.kernel) < 128 else np.int32


def bind_passes(copies: Copies) -> dispatch.Passes:
    """The passes for a compiler."""
    return {
        "forward": functools.partial(forward, copies),
        "forward_saving": functools.partial(forward_saving, copies),
        "backward": functools.partial(backward, copies),
    }


IMPLEMENTATION = dispatch.Implementation("xla", bind_passes(XLA))
