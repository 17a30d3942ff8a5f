"""Shapes: what only moves, cuts, joins and fills."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.onnx.errors import OnnxError
from zoo.onnx.operators.arithmetic import find_dtype
from zoo.onnx.registry import Call, Value, cast, numeric, operator

# The most elements of an array that is made out of nothing.
MAX_ELEMENTS = 1 << 28


def check_size(shape: Any) -> tuple[int, ...]:
    """A shape as integers; OnnxError if an array of it could not be meant."""
    sides = tuple(int(side) for side in np.asarray(shape).reshape(-1))
    if any(side < 0 for side in sides) or math.prod(sides) > MAX_ELEMENTS:
        raise OnnxError(f"no array can have the shape {list(sides)}")
    return sides


def to_ints(values: Value) -> list[int]:
    """A known array of integers as a list."""
    return [int(each) for each in np.asarray(values).reshape(-1)]


@operator("Shape")
def shape(call: Call, x: Value) -> Value:
    """The shape, or a part of it."""
    return np.asarray(x.shape[slice(call.get("start", 0), call.get("end"))], np.int64)


@operator("Size")
def size(call: Call, x: Value) -> Value:
    """The number of elements."""
    return np.asarray(math.prod(x.shape), np.int64)


@operator("Reshape")
def reshape_by_attribute(call: Call, x: Value) -> Value:
    """Elements in another shape."""
    return reshape(call, x, np.asarray(call.get("shape")))


@operator("Reshape", since=5, known=(1,))
def reshape(call: Call, x: Value, shape: Value) -> Value:
    """Elements in another shape; 0 keeps a side, −1 is what is left."""
    sides = to_ints(shape)
    if not call.get("allowzero", 0):
        sides = [x.shape[i] if side == 0 else side for i, side in enumerate(sides)]
    return numeric(x).reshape(x, sides)


@operator("Flatten")
def flatten(call: Call, x: Value) -> Value:
    """Two axes: all before one, and all from it on."""
    axis = call.get("axis", 1)
    if axis < 0:
        axis += x.ndim
    return numeric(x).reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@operator("Squeeze", known=(1,))
def squeeze(call: Call, x: Value, axes: Value = None) -> Value:
    """Without axes of one element."""
    found = call.get("axes") if axes is None else to_ints(axes)
    return numeric(x).squeeze(x, None if found is None else tuple(found))


@operator("Unsqueeze", known=(1,))
def unsqueeze(call: Call, x: Value, axes: Value = None) -> Value:
    """With axes of one element more."""
    found = call.get("axes") if axes is None else to_ints(axes)
    return numeric(x).expand_dims(x, tuple(found))


@operator("Transpose")
def transpose(call: Call, x: Value) -> Value:
    """Axes in another order."""
    return numeric(x).transpose(x, call.get("perm"))


@operator("Concat")
def concatenate(call: Call, *values: Value) -> Value:
    """Arrays behind each other."""
    return numeric(*values).concatenate(values, call.get("axis", 1))


@operator("Split", known=(1,))
def split(call: Call, x: Value, sizes: Value = None) -> Value:
    """An array in parts along an axis."""
    axis = call.get("axis", 0)
    lengths = call.get("split") if sizes is None else to_ints(sizes)
    if lengths is None:
        count = call.get("num_outputs", call.outputs)
        each = -(-x.shape[axis] // count)
        ends = [min(each * number, x.shape[axis]) for number in range(1, count)]
    else:
        if sum(lengths) != x.shape[axis]:
            raise ValueError(f"parts of {lengths} do not add up to {x.shape[axis]}")
        ends = list(np.cumsum(lengths)[:-1])
    return tuple(numeric(x).split(x, [int(end) for end in ends], axis))


@operator("Slice")
def slice_by_attributes(call: Call, x: Value) -> Value:
    """A part of an array."""
    starts, ends = call.get("starts"), call.get("ends")
    axes = call.get("axes")
    return cut(call, x, starts, ends, range(len(starts)) if axes is None else axes)


@operator("Slice", since=10, known=(1, 2, 3, 4))
def cut(
    call: Call, x: Value, starts: Value, ends: Value, axes: Value = None, steps: Value = None
) -> Value:
    """A part of an array, perhaps with steps, which may be negative."""
    firsts, lasts = to_ints(starts), to_ints(ends)
    chosen = range(len(firsts)) if axes is None else to_ints(axes)
    strides = [1] * len(firsts) if steps is None else to_ints(steps)
    index = [slice(None)] * x.ndim
    for axis, first, last, step in zip(chosen, firsts, lasts, strides, strict=True):
        length = x.shape[axis]
        if first < 0:
            first += length
        if last < 0:
            last += length
        if step > 0:
            index[axis] = slice(max(0, first), max(0, last), step)
        else:
            low = None if last < 0 else last
            index[axis] = slice(min(max(first, 0), length - 1), low, step)
    return x[tuple(index)]


@operator("Pad")
def pad_by_attributes(call: Call, x: Value) -> Value:
    """An array with more at its borders."""
    amounts = np.asarray(call.get("pads", call.get("paddings")))
    return pad(call, x, amounts, np.asarray(call.get("value", 0.0), x.dtype))


@operator("Pad", since=11, known=(1, 3))
def pad(call: Call, x: Value, amounts: Value, value: Value = None, axes: Value = None) -> Value:
    """An array with more at its borders, or with less where a number is negative."""
    chosen = range(x.ndim) if axes is None else [axis % x.ndim for axis in to_ints(axes)]
    flat = to_ints(amounts)
    half = len(flat) // 2
    pairs = [(0, 0)] * x.ndim
    for axis, low, high in zip(chosen, flat[:half], flat[half:], strict=True):
        pairs[axis] = (low, high)
    check_size([n + max(0, a) + max(0, b) for n, (a, b) in zip(x.shape, pairs, strict=True)])
    more = [(max(0, low), max(0, high)) for low, high in pairs]
    mode = call.text("mode", "constant")
    m = numeric(x, value)
    if mode == "constant":
        filling = 0 if value is None else m.reshape(m.asarray(value), ())
        y = m.pad(x, more, constant_values=m.asarray(filling, x.dtype))
    else:
        y = m.pad(x, more, mode={"reflect": "reflect", "edge": "edge", "wrap": "wrap"}[mode])
    less = tuple(
        slice(max(0, -low), y.shape[i] - max(0, -high)) for i, (low, high) in enumerate(pairs)
    )
    return y[less]


@operator("Tile", known=(1,))
def tile(call: Call, x: Value, repeats: Value) -> Value:
    """An array several times along its axes."""
    check_size([n * k for n, k in zip(x.shape, to_ints(repeats), strict=True)])
    return numeric(x).tile(x, to_ints(repeats))


@operator("Expand", known=(1,))
def expand(call: Call, x: Value, shape: Value) -> Value:
    """An array, repeated along axes of one element."""
    return numeric(x).broadcast_to(x, check_size(np.broadcast_shapes(x.shape, to_ints(shape))))


@operator("ConstantOfShape", known=(0,))
def fill(call: Call, shape: Value) -> Value:
    """One value everywhere."""
    value = call.get("value")
    value = np.zeros(1, np.float32) if value is None else value
    return np.full(check_size(shape), value.reshape(()), value.dtype)


@operator("Range", known=(0, 1, 2))
def count(call: Call, start: Value, limit: Value, step: Value) -> Value:
    """Numbers at equal distances."""
    first, last, delta = (each.reshape(()) for each in (start, limit, step))
    length = max(0, math.ceil((float(last) - float(first)) / float(delta)))
    check_size(length)
    return (first + np.arange(length, dtype=start.dtype) * delta).astype(start.dtype)


@operator("EyeLike")
def eye_like(call: Call, x: Value) -> Value:
    """Ones on a diagonal."""
    dtype = find_dtype(call.get("dtype")) if call.get("dtype") else x.dtype
    rows, columns = x.shape
    return np.eye(rows, columns, call.get("k", 0), dtype)


@operator("Trilu", known=(1,))
def triangle(call: Call, x: Value, k: Value = None) -> Value:
    """The upper or lower triangle of the matrices in the last two axes."""
    m, diagonal = numeric(x), 0 if k is None else int(k.reshape(()))
    return m.triu(x, diagonal) if call.get("upper", 1) else m.tril(x, diagonal)


@operator("DepthToSpace")
def depth_to_space(call: Call, x: Value) -> Value:
    """Blocks of channels as blocks of pixels."""
    n, c, h, w = x.shape
    b, m = call.get("blocksize"), numeric(x)
    if call.text("mode", "DCR") == "DCR":
        y = m.transpose(m.reshape(x, (n, b, b, c // b**2, h, w)), (0, 3, 4, 1, 5, 2))
    else:
        y = m.transpose(m.reshape(x, (n, c // b**2, b, b, h, w)), (0, 1, 4, 2, 5, 3))
    return m.reshape(y, (n, c // b**2, h * b, w * b))


@operator("SpaceToDepth")
def space_to_depth(call: Call, x: Value) -> Value:
    """Blocks of pixels as blocks of channels."""
    n, c, h, w = x.shape
    b, m = call.get("blocksize"), numeric(x)
    order = (0, 3, 5, 1, 2, 4) if call.text("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    y = m.transpose(m.reshape(x, (n, c, h // b, b, w // b, b)), order)
    return m.reshape(y, (n, c * b**2, h // b, w // b))


@operator("CenterCropPad", known=(1,))
def crop_or_pad(call: Call, x: Value, shape: Value) -> Value:
    """The middle of an array, or the array in the middle of zeros."""
    axes, wanted = call.get("axes", list(range(x.ndim))), to_ints(shape)
    m = numeric(x)
    for axis, length in zip(axes, wanted, strict=True):
        more = length - x.shape[axis]
        if more > 0:
            pairs = [(0, 0)] * x.ndim
            pairs[axis] = (more // 2, more - more // 2)
            x = m.pad(x, pairs)
        else:
            start = -more // 2
            x = m.take(x, np.arange(start, start + length), axis)
    return x


@operator("ReverseSequence")
def reverse_sequences(call: Call, x: Value, lengths: Value) -> Value:
    """Sequences, each of its own length, from their ends to their beginnings."""
    time, batch = call.get("time_axis", 0), call.get("batch_axis", 1)
    x = jnp.moveaxis(jnp.asarray(x), (batch, time), (0, 1))
    steps = jnp.arange(x.shape[1])
    lengths = jnp.asarray(lengths)[:, None]
    order = jnp.where(steps < lengths, lengths - 1 - steps, steps)
    y = jax.vmap(lambda row, places: row[places])(x, order)
    return jnp.moveaxis(y, (0, 1), (batch, time))


def _make_window(*weights: float) -> Any:
    """The function of a window that is a sum of cosines."""

    def window(call: Call, length: Value) -> Value:
        count = int(length.reshape(()))
        period = count if call.get("periodic", 1) else count - 1
        angles = 2 * np.pi * np.arange(check_size(count)[0]) / max(1, period)
        y = sum(weight * np.cos(k * angles) for k, weight in enumerate(weights))
        return cast(np.asarray(y), find_dtype(call.get("output_datatype", 1)))

    return window


for _name, _weights in {
    "HannWindow": (0.5, -0.5),
    "HammingWindow": (25 / 46, -21 / 46),
    "BlackmanWindow": (0.42, -0.5, 0.08),
}.items():
    operator(_name, known=(0,))(_make_window(*_weights))
