"""The nodes of a traced program's equations: of the zoo's layers, and of what is between them."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zoo.onnx.emit import NCHW, Emitter, Sum, Tensor, Value, map_axes
from zoo.onnx.errors import UnsupportedError
from zoo.onnx.trace import ACTIVATION, BATCH, BATCH_NORM, CONV, DENSE, MAX_POOL

# --- layers


def _emit_conv(
    e: Emitter, shape: Any, x: Value, kernel: Value, bias: Value | None = None, **config: Any
) -> Tensor:
    path = config["path"]
    inputs = [e.name_of(x, 4), e.parameter(kernel, f"{path}/kernel", (3, 2, 0, 1))]
    if bias is not None:
        inputs.append(e.parameter(bias, f"{path}/bias"))
    (top, bottom), (left, right) = config["pads"]
    return e.emit(
        "Conv",
        inputs,
        shape,
        path,
        kernel_shape=list(kernel.shape[:2]),
        strides=[config["strides"]] * 2,
        dilations=[config["dilation"]] * 2,
        pads=[top, left, bottom, right],
        group=config["groups"],
    )


def _emit_dense(
    e: Emitter, shape: Any, x: Value, kernel: Value, bias: Value, path: str, **_: Any
) -> Tensor:
    names = [e.parameter(kernel, f"{path}/kernel"), e.parameter(bias, f"{path}/bias")]
    return e.emit("Gemm", [e.name_of(x, 2), *names], shape, path)


def _emit_batch_norm(
    e: Emitter, shape: Any, x: Value, *statistics: Value, path: str, eps: float, **_: Any
) -> Tensor:
    parts = ("scale", "bias", "mean", "var")
    names = [e.parameter(s, f"{path}/{part}") for s, part in zip(statistics, parts, strict=True)]
    return e.emit("BatchNormalization", [e.name_of(x, 4), *names], shape, path, epsilon=float(eps))


def _emit_activation(e: Emitter, shape: Any, x: Value, act: str, path: str, **_: Any) -> Tensor:
    name = e.name_of(x, len(shape))
    title = f"{path}/{act}"

    def apply(op: str, *inputs: str, **attributes: Any) -> Tensor:
        return e.emit(op, [*inputs], shape, title, **attributes)

    def number(value: float) -> str:
        return e.constant(np.float32(value))

    match act:
        case "relu":
            return apply("Relu", name)
        case "relu6":
            return apply("Clip", name, number(0), number(6))
        case "leaky_relu":
            return apply("LeakyRelu", name, alpha=0.01)
        case "elu":
            return apply("Elu", name)
        case "sigmoid":
            return apply("Sigmoid", name)
        case "tanh":
            return apply("Tanh", name)
        case "hard_sigmoid":
            return apply("HardSigmoid", name, alpha=1 / 6)
        case "hard_swish":
            if e.opset >= 14:
                return apply("HardSwish", name)
            return apply("Mul", name, apply("HardSigmoid", name, alpha=1 / 6).name)
        case "silu":
            return apply("Mul", name, apply("Sigmoid", name).name)
        case "gelu" | "gelu_exact" if e.opset >= 20:
            return apply("Gelu", name, approximate="tanh" if act == "gelu" else "none")
    raise UnsupportedError(f"the activation {act!r} of {path} has no operator in opset {e.opset}")


def _emit_max_pool(e: Emitter, shape: Any, x: Value, **config: Any) -> Tensor:
    (top, bottom), (left, right) = config["pads"]
    return e.emit(
        "MaxPool",
        [e.name_of(x, 4)],
        shape,
        config["path"],
        kernel_shape=[config["size"]] * 2,
        strides=[config["strides"]] * 2,
        dilations=None if config["dilation"] == 1 else [config["dilation"]] * 2,
        pads=[top, left, bottom, right],
    )


# --- what is between them


def _binary(op: str) -> Callable[..., Tensor]:
    def emit(e: Emitter, shape: Any, a: Value, b: Value, **_: Any) -> Tensor:
        if op == "Div" and isinstance(a, Sum) and (mean := e.divide_sum(a, b)) is not None:
            return mean
        return e.emit(op, [e.name_of(each, len(shape)) for each in (a, b)], shape)

    return emit


def _unary(op: str) -> Callable[..., Tensor]:
    def emit(e: Emitter, shape: Any, x: Value, **_: Any) -> Tensor:
        return e.emit(op, [e.name_of(x, len(shape))], shape)

    return emit


def _emit_sum(e: Emitter, shape: Any, x: Value, axes: tuple[int, ...], **_: Any) -> Sum:
    assert not isinstance(x, np.ndarray)
    found = e.compute(x)
    count = math.prod(found.shape[axis] for axis in axes)
    return Sum(found, tuple(axes), count, shape)


def _emit_window_sum(
    e: Emitter, shape: Any, x: Value, window_dimensions: Any, window_strides: Any, **config: Any
) -> Sum:
    plain = all(low == high == 0 for low, high in config["padding"])
    if not plain or window_dimensions[0] != 1 or window_dimensions[3] != 1:
        raise UnsupportedError("sums over windows can be exported without padding only")
    assert not isinstance(x, np.ndarray)
    window = {
        "kernel_shape": list(window_dimensions[1:3]),
        "strides": list(window_strides[1:3]),
    }
    return Sum(e.compute(x), None, math.prod(window_dimensions), shape, window)


def _emit_broadcast(
    e: Emitter, shape: Any, x: Value, /, broadcast_dimensions: tuple[int, ...], **_: Any
) -> Value:
    """Axes of one element, where sums lost them or a vector becomes a map; others by themselves."""
    if isinstance(x, Sum) and x.axes is not None:
        kept = tuple(1 if i in x.axes else n for i, n in enumerate(x.x.shape))
        if kept == tuple(shape):
            return dataclasses.replace(x, shape=kept)
    assert not isinstance(x, np.ndarray)
    found = e.compute(x)
    plain = [1] * len(shape)
    for axis, side in zip(broadcast_dimensions, found.shape, strict=True):
        plain[axis] = side
    if tuple(plain) != tuple(shape):
        raise UnsupportedError(f"{found.shape} repeated to {shape} cannot be exported")
    if len(shape) == 4 and broadcast_dimensions == (0, 3):
        return e.emit("Unsqueeze", [found.name, e.constant(np.array([2, 3]))], shape)
    return _emit_reshape(e, shape, found)


def _emit_reshape(e: Emitter, shape: Any, x: Value, **_: Any) -> Tensor:
    assert not isinstance(x, np.ndarray)
    found, name = e.compute(x), e.compute(x).name
    is_map, becomes_map = len(found.shape) == 4, len(shape) == 4
    if is_map and math.prod(found.shape[1:3]) > 1:
        name = e.emit("Transpose", [name], found.shape, perm=[0, 2, 3, 1]).name
    if len(shape) == 2 and shape[0] == BATCH:
        return e.emit("Flatten", [name], shape, axis=1)
    sides = [-1 if side == BATCH else side for side in shape]
    y = e.emit("Reshape", [name, e.constant(np.array(sides))], shape)
    return e.emit("Transpose", [y.name], shape, perm=[0, 3, 1, 2]) if becomes_map else y


def _emit_concatenate(e: Emitter, shape: Any, *values: Value, dimension: int, **_: Any) -> Tensor:
    names = [e.name_of(each, len(shape)) for each in values]
    return e.emit("Concat", names, shape, axis=map_axes((dimension,), len(shape))[0])


def _emit_slice(
    e: Emitter,
    shape: Any,
    x: Value,
    start_indices: Sequence[int],
    limit_indices: Sequence[int],
    strides: Sequence[int] | None,
    **_: Any,
) -> Tensor:
    assert not isinstance(x, np.ndarray)
    found = e.compute(x)
    steps = strides or [1] * len(shape)
    cuts = [
        (axis, *cut)
        for axis, cut in enumerate(zip(start_indices, limit_indices, steps, strict=True))
        if cut != (0, found.shape[axis], 1)
    ]
    if not cuts:
        return found
    axes, starts, limits, found_steps = zip(*cuts, strict=True)
    mapped = [NCHW[axis] if len(shape) == 4 else axis for axis in axes]
    inputs = [e.constant(np.array(each)) for each in (starts, limits, mapped, found_steps)]
    return e.emit("Slice", [found.name, *inputs], shape)


def _emit_cast(e: Emitter, shape: Any, x: Value, new_dtype: Any, **_: Any) -> Value:
    if new_dtype != np.float32:
        raise UnsupportedError(f"a model that computes in {new_dtype} cannot be exported")
    return x


def _emit_same(e: Emitter, shape: Any, x: Value, **_: Any) -> Value:
    return x


EQUATIONS: dict[str, Callable[..., Value]] = {
    CONV.name: _emit_conv,
    DENSE.name: _emit_dense,
    BATCH_NORM.name: _emit_batch_norm,
    ACTIVATION.name: _emit_activation,
    MAX_POOL.name: _emit_max_pool,
    "add": _binary("Add"),
    "sub": _binary("Sub"),
    "mul": _binary("Mul"),
    "div": _binary("Div"),
    "max": _binary("Max"),
    "min": _binary("Min"),
    "exp": _unary("Exp"),
    "neg": _unary("Neg"),
    "tanh": _unary("Tanh"),
    "logistic": _unary("Sigmoid"),
    "reduce_sum": _emit_sum,
    "reduce_window_sum": _emit_window_sum,
    "broadcast_in_dim": _emit_broadcast,
    "reshape": _emit_reshape,
    "squeeze": _emit_reshape,
    "concatenate": _emit_concatenate,
    "slice": _emit_slice,
    "convert_element_type": _emit_cast,
    "copy": _emit_same,
    "stop_gradient": _emit_same,
}
