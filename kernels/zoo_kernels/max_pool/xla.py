"""Maxima of windows, and their gradient by the place of each maximum.

XLA's gradient of a maximum compares pairs of a place and a value in one more reduction over
windows, of arrays as large as x that it writes beforehand: on 2 cores that takes 10 to 60 times as
long as this (3x3 with strides 2, 8x112x112x64: 122 ms instead of 2 to 8). Here the forward pass
notes which value of its window was the largest, and the backward pass writes dx in one loop.
"""

import itertools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zoo_kernels.core import cpu, dispatch, linear
from zoo_kernels.core.window import Window


def forward(window: Window, x: jax.Array) -> list[jax.Array]:
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
    first, *others = _values(window, x)
    for value in others:
        first = jnp.maximum(first, value)
    return [first]


def forward_saving(window: Window, x: jax.Array) -> list[jax.Array]:
    """(x) → y, and the place of each maximum in its window, counted by rows."""
    y, *others = _values(window, x)
    # Where all of a window is −inf, the first of what lies inside stands for it, not the padding.
    row, column = (_first_inside(window, axis) for axis in (0, 1))
    first = (row[:, None] * window.kernel[1] + column)[:, :, None]
    places = jnp.broadcast_to(jnp.asarray(first, _counter(window)), y.shape)
    for place, value in enumerate(others, start=1):
        larger = (value > y) | jnp.isnan(value)
        y = jnp.where(larger, value, y)
        places = jnp.where(larger, places.dtype.type(place), places)
    return [y, places]


def backward(window: Window, places: jax.Array, dy: jax.Array) -> list[jax.Array]:
    """(places, dy) → dx.

    With strides s, row s·q + r of the padded dx meets row q − o of dy at the place i of its window
    where i · dilation = s·o + r. So dx is a sum over the few offsets o, written as an array
    [N, H/s, s, W/s, s, C] whose places i are known for each phase r.
    """
    (sh, sw), (top, left) = window.strides, (pad[0] for pad in window.padding)
    qh, qw = (
        -(-(n + low) // s)
        for n, low, s in zip(window.size, (top, left), window.strides, strict=True)
    )
    rows, columns = (_offsets(window, axis) for axis in (0, 1))
    # Beyond what a window's own offset reaches, no place matches −1.
    around = [
        (max(offsets), q - n)
        for offsets, q, n in zip((rows, columns), (qh, qw), window.out, strict=True)
    ]
    dtype = linear.wide(dy.dtype)
    dy_, places = cpu.padded(dy, around, 0), cpu.padded(places, around, -1)

    def met(array: jax.Array, row: int, column: int) -> jax.Array:
        """Of an array like dy, what lies so many rows and columns before: [N, qh, 1, qw, 1, C]."""
        start = (0, max(rows) - row, max(columns) - column, 0)
        shape = (array.shape[0], qh, qw, array.shape[3])
        part = lax.slice(array, start, [a + n for a, n in zip(start, shape, strict=True)])
        return part[:, :, None, :, None]

    dx = jnp.zeros((), dtype)
    for (row, i), (column, j) in itertools.product(rows.items(), columns.items()):
        there = np.where((i[:, None] < 0) | (j < 0), -2, i[:, None] * window.kernel[1] + j)
        wanted = jnp.asarray(there, places.dtype)[:, None, :, None]
        own = met(places, row, column) == wanted
        dx = dx + jnp.where(own, met(dy_, row, column).astype(dtype), 0)
    dx = dx.reshape(dy.shape[0], qh * sh, qw * sw, dy.shape[3])
    dx = dx[:, top : top + window.size[0], left : left + window.size[1]]
    return [dx.astype(dy.dtype)]


def _values(window: Window, x: jax.Array) -> Iterator[jax.Array]:
    """For each place in a window, by rows, the values of all windows."""
    overlapping = any(
        s < (k - 1) * d + 1
        for k, s, d in zip(window.kernel, window.strides, window.dilation, strict=True)
    )
    if any(map(any, window.padding)):
        x = cpu.padded(x, window.padding, -math.inf)
    elif overlapping:
        x = cpu.once(x)
    return linear.taps(window, x)


def _offsets(window: Window, axis: int) -> dict[int, np.ndarray]:
    """By the offset o of `backward`, the place i for each phase r on one axis, −1 for none."""
    k, s, d = window.kernel[axis], window.strides[axis], window.dilation[axis]
    offsets: dict[int, np.ndarray] = {}
    for i in range(k):
        offsets.setdefault(i * d // s, np.full(s, -1))[i * d % s] = i
    return offsets


def _first_inside(window: Window, axis: int) -> np.ndarray:
    """By the output on one axis, the first place of its window that is not padding."""
    begins = np.arange(window.out[axis]) * window.strides[axis] - window.padding[axis][0]
    return np.clip(-(begins // window.dilation[axis]), 0, window.kernel[axis] - 1)


def _counter(window: Window) -> type[np.signedinteger]:
    """What counts the places of a window."""
    return np.int8 if math.prod(window.kernel) < 128 else np.int32


IMPLEMENTATION = dispatch.Implementation(
    "xla", {"forward": forward, "forward_saving": forward_saving, "backward": backward}
)
