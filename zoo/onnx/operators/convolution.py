"""Convolutions, [N, C, …] with any number of spatial axes."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import zoo_kernels as kernels
from zoo.onnx.registry import Call, Kernel, Value, operator

Pads = list[tuple[int, int]]


def find_window(call: Call, kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """Strides and dilations of a window with so many axes."""
    return (
        list(call.get("strides") or [1] * len(kernel)),
        list(call.get("dilations") or [1] * len(kernel)),
    )


def find_pads(call: Call, size: Sequence[int], kernel: Sequence[int]) -> Pads:
    """The padding before and after each axis."""
    strides, dilations = find_window(call, kernel)
    auto = call.text("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = []
        for length, k, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
            total = max(0, (-(-length // stride) - 1) * stride + (k - 1) * dilation + 1 - length)
            small, large = total // 2, total - total // 2
            pads.append((small, large) if auto == "SAME_UPPER" else (large, small))
        return pads
    given = call.get("pads") if auto == "NOTSET" else None
    flat = list(given or [0] * (2 * len(kernel)))
    return list(zip(flat[: len(kernel)], flat[len(kernel) :], strict=True))


@operator("Conv")
def conv(call: Call, x: Value, w: Value, b: Value = None) -> Value:
    """A convolution with kernels [out, in / groups, …]."""
    kernel = w.shape[2:]
    strides, dilations = find_window(call, kernel)
    pads = find_pads(call, x.shape[2:], kernel)
    y = convolve(x, w, strides, pads, dilations, call.get("group", 1))
    return y if b is None else y + b.reshape(-1, *(1,) * len(kernel))


def convolve(
    x: Value, w: Value, strides: list[int], pads: Pads, dilations: list[int], groups: int
) -> jax.Array:
    """A convolution of [N, C, …], by the zoo's operators where it is one of images."""
    x = jnp.asarray(x)
    empty = min(*x.shape, *w.shape) == 0
    if len(w.shape) != 4 or not jnp.issubdtype(x.dtype, jnp.floating) or empty:
        plain = w.oihw if isinstance(w, Kernel) else jnp.asarray(w)
        return lax.conv_general_dilated(
            x, plain, strides, pads, rhs_dilation=dilations, feature_group_count=groups
        )
    kernel = w.hwio if isinstance(w, Kernel) else jnp.asarray(w).transpose(2, 3, 1, 0)
    rows = x.transpose(0, 2, 3, 1)
    if groups == x.shape[1] and w.shape[1] == 1:
        run = kernels.depthwise_conv
    else:
        run = functools.partial(kernels.conv, groups=groups)
    y = run(rows, kernel, strides=strides, padding=tuple(pads), dilation=dilations)
    return y.transpose(0, 3, 1, 2)


@operator("ConvTranspose")
def conv_transpose(call: Call, x: Value, w: Value, b: Value = None) -> Value:
    """The transpose of a convolution with kernels [in, out / groups, …]."""
    x, w = jnp.asarray(x), jnp.asarray(w)
    kernel, size = w.shape[2:], x.shape[2:]
    strides, dilations = find_window(call, kernel)
    extra = list(call.get("output_padding") or [0] * len(kernel))
    extents = [(k - 1) * dilation + 1 for k, dilation in zip(kernel, dilations, strict=True)]
    wanted = call.get("output_shape")
    pads = find_pads(call, size, kernel)
    auto = call.text("auto_pad", "NOTSET")
    if wanted or auto.startswith("SAME"):
        wanted = list(wanted or [n * s for n, s in zip(size, strides, strict=True)])
        pads = []
        for n, s, e, k, length in zip(
            size, strides, extra, extents, wanted[-len(size) :], strict=True
        ):
            total = s * (n - 1) + e + k - length
            half = total // 2
            pads.append((half, total - half) if auto == "SAME_UPPER" else (total - half, half))
    groups = call.get("group", 1)
    # The kernels of a convolution over the input with zeros between its elements, flipped.
    w = w.reshape(groups, -1, *w.shape[1:]).swapaxes(1, 2)
    w = jnp.flip(w.reshape(-1, *w.shape[2:]), range(2, w.ndim - 1))
    y = lax.conv_general_dilated(
        x,
        w,
        window_strides=[1] * len(kernel),
        padding=[
            (k - 1 - low, k - 1 - high + e)
            for k, (low, high), e in zip(extents, pads, extra, strict=True)
        ],
        lhs_dilation=strides,
        rhs_dilation=dilations,
        feature_group_count=groups,
    )
    return y if b is None else y + b.reshape(-1, *(1,) * len(kernel))


@operator("ConvInteger")
def conv_integer(
    call: Call, x: Value, w: Value, x_zero: Value = None, w_zero: Value = None
) -> Value:
    """A convolution of small integers, in 32 bits."""
    kernel = w.shape[2:]
    strides, dilations = find_window(call, kernel)
    pads = find_pads(call, x.shape[2:], kernel)
    wide = jnp.asarray(x).astype(jnp.int32) - _zero(x_zero)
    wide_kernel = jnp.asarray(w).astype(jnp.int32) - _zero(w_zero, w.ndim)
    return lax.conv_general_dilated(
        wide,
        wide_kernel,
        strides,
        pads,
        rhs_dilation=dilations,
        feature_group_count=call.get("group", 1),
    )


def _zero(zero: Value, ndim: int = 0) -> Value:
    """A zero point in 32 bits; that of each output channel along the first axis."""
    if zero is None:
        return np.int32(0)
    wide = jnp.asarray(zero).astype(jnp.int32)
    return wide.reshape(-1, *(1,) * (ndim - 1)) if wide.size > 1 else wide.reshape(())


@operator("Col2Im", known=(1, 2))
def add_blocks(call: Call, x: Value, size: Value, block: Value) -> Value:
    """Columns of blocks, [N, C · block, positions], added up where they lie in the image."""
    size, block = [int(n) for n in size], [int(n) for n in block]
    strides, dilations = find_window(call, block)
    pads = find_pads(call, size, block)
    padded = [n + low + high for n, (low, high) in zip(size, pads, strict=True)]
    counts = [
        (n - (k - 1) * d - 1) // s + 1
        for n, k, d, s in zip(padded, block, dilations, strides, strict=True)
    ]
    n, channels = x.shape[0], x.shape[1] // math.prod(block)
    x = jnp.asarray(x).reshape(n, channels, *block, *counts)
    rank = len(size)
    index = []
    for axis in range(rank):
        rows = np.arange(block[axis])[:, None] * dilations[axis]
        rows = rows + np.arange(counts[axis]) * strides[axis]
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = rows.shape
        index.append(rows.reshape(shape))
    image = jnp.zeros((n, channels, *padded), x.dtype).at[(..., *index)].add(x)
    inside = [slice(low, low + n) for n, (low, _) in zip(size, pads, strict=True)]
    return image[(..., *inside)]


@operator("DeformConv")
def deformable_conv(
    call: Call, x: Value, w: Value, offset: Value, b: Value = None, mask: Value = None
) -> Value:
    """A convolution of images whose taps lie where offsets say; between pixels, bilinear."""
    if w.ndim != 4:
        raise NotImplementedError("only images, with two spatial axes, are there")
    x, w = jnp.asarray(x), jnp.asarray(w)
    (kh, kw), (n, channels, height, width) = w.shape[2:], x.shape
    strides, dilations = find_window(call, (kh, kw))
    pads = find_pads(call, (height, width), (kh, kw))
    groups, offset_groups = call.get("group", 1), call.get("offset_group", 1)
    rows, columns = offset.shape[2:]
    offset = jnp.asarray(offset).reshape(n, offset_groups, kh, kw, 2, rows, columns)
    y = np.arange(rows) * strides[0] - pads[0][0]
    y = y[None, None, :, None] + np.arange(kh)[:, None, None, None] * dilations[0]
    z = np.arange(columns) * strides[1] - pads[1][0]
    z = z[None, None, None, :] + np.arange(kw)[None, :, None, None] * dilations[1]
    y, z = y + offset[:, :, :, :, 0], z + offset[:, :, :, :, 1]
    grouped = x.reshape(n, offset_groups, -1, height, width)
    taps = jax.vmap(jax.vmap(_sample))(grouped, y, z)  # [N, groups, C / groups, kh, kw, …]
    if mask is not None:
        taps = taps * jnp.asarray(mask).reshape(n, offset_groups, 1, kh, kw, rows, columns)
    taps = taps.reshape(n, groups, channels // groups, kh, kw, rows, columns)
    kernels_ = w.reshape(groups, -1, *w.shape[1:])
    result = jnp.einsum("ngcijhw,gocij->ngohw", taps, kernels_).reshape(n, -1, rows, columns)
    return result if b is None else result + b.reshape(-1, 1, 1)


def _sample(image: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Values of [C, H, W] at positions, of which those outside are 0."""
    y0, x0 = jnp.floor(y).astype(jnp.int32), jnp.floor(x).astype(jnp.int32)
    total = jnp.zeros((), image.dtype)
    for row in (y0, y0 + 1):
        for column in (x0, x0 + 1):
            inside = (row >= 0) & (row < image.shape[1]) & (column >= 0) & (column < image.shape[2])
            weight = (1 - jnp.abs(y - row)) * (1 - jnp.abs(x - column)) * inside
            rows = jnp.clip(row, 0, image.shape[1] - 1)
            total += weight * image[:, rows, jnp.clip(column, 0, image.shape[2] - 1)]
    return total
