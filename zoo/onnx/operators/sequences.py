"""Sequences of arrays, which exist while a program is traced, and values that may be missing."""

import numpy as np

from zoo.onnx.operators.arithmetic import find_dtype
from zoo.onnx.operators.shapes import to_ints
from zoo.onnx.registry import Call, Value, numeric, operator


@operator("SequenceEmpty")
def make_empty(call: Call) -> Value:
    """No arrays."""
    find_dtype(call.get("dtype", 1))
    return []


@operator("SequenceConstruct")
def make_sequence(call: Call, *values: Value) -> Value:
    """The inputs as a sequence."""
    return list(values)


@operator("SequenceAt", known=(1,))
def take_one(call: Call, sequence: Value, position: Value) -> Value:
    """The array at a position."""
    return sequence[int(position.reshape(()))]


@operator("SequenceLength")
def count(call: Call, sequence: Value) -> Value:
    """The number of arrays."""
    return np.asarray(len(sequence), np.int64)


@operator("SequenceInsert", known=(2,))
def insert(call: Call, sequence: Value, x: Value, position: Value = None) -> Value:
    """A sequence with one array more."""
    made = list(sequence)
    made.insert(len(made) if position is None else int(position.reshape(())), x)
    return made


@operator("SequenceErase", known=(1,))
def erase(call: Call, sequence: Value, position: Value = None) -> Value:
    """A sequence without one of its arrays."""
    made = list(sequence)
    made.pop(-1 if position is None else int(position.reshape(())))
    return made


@operator("ConcatFromSequence")
def concatenate(call: Call, sequence: Value) -> Value:
    """The arrays behind each other, or in a new axis."""
    m, axis = numeric(*sequence), call.get("axis")
    return m.stack(sequence, axis) if call.get("new_axis", 0) else m.concatenate(sequence, axis)


@operator("SplitToSequence", known=(1,))
def split(call: Call, x: Value, sizes: Value = None) -> Value:
    """The parts of an array along an axis."""
    axis, m = call.get("axis", 0), numeric(x)
    length = x.shape[axis]
    if sizes is None:
        ends = list(range(1, length))
    elif sizes.ndim == 0:
        ends = list(range(int(sizes), length, int(sizes)))
    else:
        ends = np.cumsum(to_ints(sizes))[:-1].tolist()
    parts = m.split(x, ends, axis)
    if sizes is None and not call.get("keepdims", 1):
        parts = [m.squeeze(part, axis) for part in parts]
    return list(parts)


@operator("SequenceMap")
def map_sequence(call: Call, sequence: Value, *others: Value) -> Value:
    """A graph for each array of a sequence, and those of others at its place."""
    results = [
        call.run_graph(
            call.get("body"),
            [x, *(other[i] if isinstance(other, list) else other for other in others)],
        )
        for i, x in enumerate(sequence)
    ]
    return tuple(list(each) for each in zip(*results, strict=True))


@operator("Optional")
def make_optional(call: Call, value: Value = None) -> Value:
    """A value that may be missing."""
    return value


@operator("OptionalHasElement")
def has_value(call: Call, value: Value = None) -> Value:
    """Whether there is a value."""
    return np.asarray(value is not None)


@operator("OptionalGetElement")
def get_value(call: Call, value: Value) -> Value:
    """The value."""
    return value
