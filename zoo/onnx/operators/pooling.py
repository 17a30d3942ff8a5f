"""Pooling, [N, C, …] with any number of spatial axes."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import zoo_kernels as kernels
from zoo.onnx.operators.convolution import Pads, find_pads, find_window
from zoo.onnx.registry import Call, Value, operator


class _Window:
    """Where the windows of a pooling lie.

    Args:
      call: of the operator.
      x: its input.
    """

    def __init__(self, call: Call, x: Value) -> None:
        size = x.shape[2:]
        self.kernel = list(call.get("kernel_shape"))
        self.strides, self.dilations = find_window(call, self.kernel)
        self.pads = find_pads(call, size, self.kernel)
        # What is added to the padding so that the last windows, which lie partly outside, count.
        self.more = [0] * len(self.kernel)
        if call.get("ceil_mode", 0):
            for axis, (low, high) in enumerate(self.pads):
                self.more[axis] = self._fill(size[axis], low, high, axis)
        self.all_pads: Pads = [
            (low, high + more) for (low, high), more in zip(self.pads, self.more, strict=True)
        ]

    def _fill(self, length: int, low: int, high: int, axis: int) -> int:
        stride, k = self.strides[axis], (self.kernel[axis] - 1) * self.dilations[axis] + 1
        count = -(-(length + low + high - k) // stride) + 1
        if (count - 1) * stride >= length + low:  # the last one would lie in the padding alone
            count -= 1
        return max(0, (count - 1) * stride + k - length - low - high)

    def reduce(self, x: Value, start: Any, function: Any, pads: Pads | None = None) -> jax.Array:
        """A reduction over each window."""
        ones = (1, 1)
        return lax.reduce_window(
            x,
            start,
            function,
            (*ones, *self.kernel),
            (*ones, *self.strides),
            ((0, 0), (0, 0), *(self.all_pads if pads is None else pads)),
            window_dilation=(*ones, *self.dilations),
        )


@operator("AveragePool")
def average_pool(call: Call, x: Value) -> Value:
    """The means of windows; the padding counts if `count_include_pad` says so."""
    x, window = jnp.asarray(x), _Window(call, x)
    ones = jnp.ones((1, 1, *x.shape[2:]), x.dtype)
    zero = np.zeros((), x.dtype)
    pads = window.all_pads
    if call.get("count_include_pad", 0):
        ones = jnp.pad(ones, ((0, 0), (0, 0), *window.pads), constant_values=1)
        pads = [(0, more) for more in window.more]
    sums = window.reduce(x, zero, lax.add)
    return sums / window.reduce(ones, zero, lax.add, pads)


@operator("LpPool")
def lp_pool(call: Call, x: Value) -> Value:
    """The p-norms of windows."""
    p, window = call.get("p", 2), _Window(call, x)
    sums = window.reduce(jnp.abs(x) ** p, np.zeros((), x.dtype), lax.add)
    return sums ** (1 / p)


@operator("MaxPool")
def max_pool(call: Call, x: Value) -> Value:
    """The maxima of windows; and, if they are wanted, where in the input each was found."""
    x, window = jnp.asarray(x), _Window(call, x)
    if call.outputs < 2 and x.ndim == 4 and jnp.issubdtype(x.dtype, jnp.floating):
        y = kernels.max_pool(
            x.transpose(0, 2, 3, 1),
            window.kernel,
            strides=window.strides,
            padding=window.all_pads,
            dilation=window.dilations,
        )
        return y.transpose(0, 3, 1, 2)
    least = -np.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    start = np.asarray(least, x.dtype)
    maxima = window.reduce(x, start, lax.max)
    if call.outputs < 2:
        return maxima
    return maxima, _find_maxima(call, x, window, start)


def _find_maxima(call: Call, x: jax.Array, window: _Window, start: Any) -> jax.Array:
    """Flat positions of the first maximum of each window."""
    shape = x.shape
    spatial = np.arange(math.prod(shape[2:])).reshape(shape[2:])
    if call.get("storage_order", 0):
        spatial = np.arange(math.prod(shape[2:])).reshape(shape[:1:-1]).T
    planes = np.arange(shape[0] * shape[1]).reshape(*shape[:2], *(1,) * len(shape[2:]))
    positions = jnp.asarray(planes * spatial.size + spatial, jnp.int32)

    def larger(a: Any, b: Any) -> Any:
        takes = (b[0] > a[0]) | ((b[0] == a[0]) & (b[1] < a[1]))
        return jnp.where(takes, b[0], a[0]), jnp.where(takes, b[1], a[1])

    last = np.asarray(np.iinfo(np.int32).max, np.int32)
    return window.reduce((x, positions), (start, last), larger)[1]


@operator("GlobalAveragePool")
def global_average_pool(call: Call, x: Value) -> Value:
    """The mean of each channel."""
    return jnp.mean(x, tuple(range(2, x.ndim)), keepdims=True)


@operator("GlobalMaxPool")
def global_max_pool(call: Call, x: Value) -> Value:
    """The maximum of each channel."""
    return jnp.max(x, tuple(range(2, x.ndim)), keepdims=True)


@operator("GlobalLpPool")
def global_lp_pool(call: Call, x: Value) -> Value:
    """The p-norm of each channel."""
    p = call.get("p", 2)
    return jnp.sum(jnp.abs(x) ** p, tuple(range(2, x.ndim)), keepdims=True) ** (1 / p)


@operator("MaxUnpool", known=(2,))
def max_unpool(call: Call, x: Value, positions: Value, shape: Value = None) -> Value:
    """Values at the flat positions where they were found, and zeros elsewhere."""
    kernel = call.get("kernel_shape")
    strides, _ = find_window(call, kernel)
    pads = find_pads(call, x.shape[2:], kernel)
    size = [
        (n - 1) * s + k - low - high
        for n, s, k, (low, high) in zip(x.shape[2:], strides, kernel, pads, strict=True)
    ]
    plain = (*x.shape[:2], *size)
    wanted = plain if shape is None else tuple(int(n) for n in shape)
    flat = jnp.zeros(math.prod(plain), x.dtype)
    flat = flat.at[jnp.asarray(positions).reshape(-1)].set(jnp.asarray(x).reshape(-1))
    more = [(0, large - small) for large, small in zip(wanted, plain, strict=True)]
    return jnp.pad(flat.reshape(plain), more)


@operator("LRN")
def normalize_locally(call: Call, x: Value) -> Value:
    """Values over a power of the squares of neighbouring channels."""
    size = call.get("size")
    before = (size - 1) // 2
    sides = [(0, 0), (before, size - 1 - before)] + [(0, 0)] * (x.ndim - 2)
    window = (1, size) + (1,) * (x.ndim - 2)
    x = jnp.asarray(x)
    sums = lax.reduce_window(
        jnp.square(x), np.zeros((), x.dtype), lax.add, window, (1,) * x.ndim, sides
    )
    alpha, beta, bias = (
        call.get(name, value) for name, value in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    return x / (bias + alpha / size * sums) ** beta
