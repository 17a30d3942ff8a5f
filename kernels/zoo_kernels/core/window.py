"""The geometry of a convolution or a pool: strides, padding, dilation, checked and explicit."""

import dataclasses
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zoo_kernels.core.dtypes import DTYPES

Pair = tuple[int, int]
DEPTHWISE = "depthwise"
Padding = str | int | Sequence[Sequence[int]]


@dataclasses.dataclass(frozen=True)
class Window:
    """One convolution's or pool's geometry: hashable, static under jit.

    Every pair is (height, width). `size` is the input's and `channels` the number of its channels,
    `kernel` is the kernel's size.
    """

    size: Pair
    channels: int
    kernel: Pair
    strides: Pair
    padding: tuple[Pair, Pair]
    dilation: Pair
    groups: int = 1

    @property
    def out(self) -> Pair:
        """The output's height and width."""
        h, w = (
            (n + sum(pad) - (k - 1) * d - 1) // s + 1
            for n, k, s, pad, d in zip(
                self.size, self.kernel, self.strides, self.padding, self.dilation, strict=True
            )
        )
        return h, w

    def pad_bottom(self, rows: int) -> "Window":
        """The same window with that many more rows of zeros below the input."""
        (top, bottom), sides = self.padding
        return dataclasses.replace(self, padding=((top, bottom + rows), sides))


class Operands(NamedTuple):
    """A convolution's two arrays and its window."""

    x: jax.Array
    w: jax.Array
    window: Window


def resolve_convolution(
    op: str,
    x: Any,
    w: Any,
    strides: int | Sequence[int],
    padding: Padding,
    dilation: int | Sequence[int],
    groups: int | str,
) -> Operands:
    """Checks a convolution's arguments, and resolves its window.

    `groups=DEPTHWISE` means as many groups as input channels.
    """
    x, w = _check_images(op, x), jnp.asarray(w)
    if w.ndim != 4 or 0 in w.shape:
        raise ValueError(f"{op}: w must be [kh, kw, in, out], none of them 0, got shape {w.shape}")
    if x.dtype.name not in DTYPES or x.dtype != w.dtype:
        raise ValueError(
            f"{op}: x and w must share one dtype of {', '.join(DTYPES)}, "
            f"got {x.dtype} and {w.dtype}"
        )
    channels = x.shape[3]
    kh, kw, inputs, outputs = w.shape
    if groups is DEPTHWISE:
        groups = channels
    groups = _check_integer(op, "groups", groups, minimum=1)
    if channels % groups:
        raise ValueError(f"{op}: groups must divide the channels of x, {x.shape}, got {groups}")
    if inputs != channels // groups:
        raise ValueError(
            f"{op}: x of shape {x.shape} in {groups} group(s) takes a kernel with "
            f"{channels // groups} input channel(s), got w of shape {w.shape}"
        )
    if outputs % groups:
        raise ValueError(
            f"{op}: the output channels of w, shape {w.shape}, must be a multiple of the "
            f"{groups} group(s)"
        )
    return Operands(x, w, resolve_window(op, x, (kh, kw), strides, padding, dilation, groups))


def resolve_pool(
    op: str,
    x: Any,
    size: int | Sequence[int],
    strides: int | Sequence[int],
    padding: Padding,
    dilation: int | Sequence[int],
) -> tuple[jax.Array, Window]:
    """Checks a pool's arguments, and resolves its window; `size` is the window's."""
    x = _check_images(op, x)
    if x.dtype.name not in DTYPES:
        raise ValueError(f"{op}: x must be of a dtype of {', '.join(DTYPES)}, got {x.dtype}")
    kernel = _check_pair(op, "size", size)
    return x, resolve_window(op, x, kernel, strides, padding, dilation, x.shape[3])


def _check_images(op: str, x: Any) -> jax.Array:
    x = jnp.asarray(x)
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(f"{op}: x must be [N, H, W, C], none of them 0, got shape {x.shape}")
    return x


def resolve_window(
    op: str,
    x: jax.Array,
    kernel: Pair,
    strides: int | Sequence[int],
    padding: Padding,
    dilation: int | Sequence[int],
    groups: int,
) -> Window:
    """Resolves a window, and checks that it fits into x, of which only the shape is read."""
    size = (x.shape[1], x.shape[2])
    stride = _check_pair(op, "strides", strides)
    dilations = _check_pair(op, "dilation", dilation)
    pads = _resolve_padding(op, padding, size, kernel, stride, dilations)
    window = Window(size, x.shape[3], kernel, stride, pads, dilations, groups)
    if min(window.out) < 1:
        raise ValueError(
            f"{op}: a {kernel[0]}x{kernel[1]} kernel with dilation {dilations} does not fit into x "
            f"of shape {x.shape} with padding {pads}"
        )
    return window


def _check_integer(op: str, name: str, value: Any, minimum: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = minimum - 1
    if number < minimum:
        raise ValueError(f"{op}: {name} must be an integer of at least {minimum}, got {value!r}")
    return number


def _check_pair(op: str, name: str, value: int | Sequence[int]) -> Pair:
    values = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(values) != 2:
        raise ValueError(f"{op}: {name} must be an integer or a pair of them, got {value!r}")
    return _check_integer(op, name, values[0], 1), _check_integer(op, name, values[1], 1)


def _resolve_padding(
    op: str, padding: Padding, size: Pair, kernel: Pair, strides: Pair, dilation: Pair
) -> tuple[Pair, Pair]:
    if isinstance(padding, str):
        if padding.upper() not in ("SAME", "VALID"):
            raise ValueError(f'{op}: padding must be "SAME", "VALID" or numbers, got {padding!r}')
        extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        pads = jax.lax.padtype_to_pads(size, extent, strides, padding.upper())
        return (int(pads[0][0]), int(pads[0][1])), (int(pads[1][0]), int(pads[1][1]))
    if isinstance(padding, Sequence):
        if len(padding) != 2 or any(
            not isinstance(side, Sequence) or len(side) != 2 for side in padding
        ):
            raise ValueError(
                f"{op}: padding must be ((top, bottom), (left, right)), got {padding!r}"
            )
        top, bottom, left, right = (
            _check_integer(op, "padding", p, 0) for side in padding for p in side
        )
        return (top, bottom), (left, right)
    p = _check_integer(op, "padding", padding, 0)
    return (p, p), (p, p)
