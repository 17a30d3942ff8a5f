"""Turns a traced program into the nodes of an ONNX graph.

Activations are [N, H, W, C] in the program and [N, C, H, W] in the graph: nothing is moved for it
but where axes of height and width go into a vector.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from zoo.onnx.errors import UnsupportedError
from zoo.onnx.load import import_onnx
from zoo.onnx.trace import ACTIVATION, BATCH, BATCH_NORM, CONV, DENSE, MAX_POOL

# For each axis of an array in the program, its axis in the graph.
NCHW = (0, 2, 3, 1)


@dataclasses.dataclass
class Tensor:
    """A value that the graph computes.

    Args:
      name: in the graph.
      shape: in the program, where `BATCH` stands for any number.
    """

    name: str
    shape: tuple[int, ...]


@dataclasses.dataclass
class Sum:
    """Sums that nothing has been emitted for yet: divided by their number they are means.

    Args:
      x: what is summed up.
      axes: of the program; of windows None.
      count: how many elements each sum has.
      shape: of the sums.
      window: of sums over windows, the attributes of an AveragePool.
    """

    x: Tensor
    axes: tuple[int, ...] | None
    count: int
    shape: tuple[int, ...]
    window: dict[str, Any] | None = None


Value = Tensor | Sum | np.ndarray


class Emitter:
    """Collects the nodes and initializers of a graph.

    Args:
      opset: the version of the operator set.
    """

    def __init__(self, opset: int) -> None:
        self.opset, self.onnx = opset, import_onnx()
        self.nodes: list[Any] = []
        self.initializers: dict[str, np.ndarray] = {}
        self.names: dict[int, str] = {}  # of parameters, by the identity of their arrays
        self._taken: set[str] = set()

    # --- the graph

    def emit(
        self,
        op: str,
        inputs: Sequence[str],
        shape: Sequence[int],
        path: str = "",
        **attributes: Any,
    ) -> Tensor:
        """Adds a node, and returns its output."""
        name = self.name(path or op.lower())
        made = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), [name], name=name, **made))
        return Tensor(name, tuple(shape))

    def name(self, wanted: str) -> str:
        """A name that nothing has yet."""
        number, name = 1, wanted
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name

    def constant(self, array: Any, wanted: str = "constant") -> str:
        """The name of an initializer."""
        array = np.asarray(array)
        for name, other in self.initializers.items():
            if other.dtype == array.dtype and array.size < 9 and np.array_equal(other, array):
                return name
        name = self.name(wanted)
        self.initializers[name] = array
        return name

    def parameter(self, value: Value, wanted: str, axes: Sequence[int] | None = None) -> str:
        """The name of a layer's parameter, under its path, with its axes in another order."""
        if not isinstance(value, np.ndarray):
            raise UnsupportedError(f"the layer's parameter {wanted!r} is computed from images")
        name = self.names.get(id(value), wanted)
        array = value if axes is None else np.ascontiguousarray(value.transpose(axes))
        return self.constant(array, name)

    # --- values

    def name_of(self, value: Value, ndim: int) -> str:
        """The name of an operand of a result with so many axes."""
        if isinstance(value, np.ndarray):
            if value.ndim == 4:
                value = value.transpose(0, 3, 1, 2)
            elif ndim == 4 and value.ndim:
                value = value.reshape(-1, 1, 1)  # one number for each channel
            return self.constant(value)
        return self.compute(value).name

    def compute(self, value: Tensor | Sum) -> Tensor:
        """A value that the graph computes; of sums now."""
        if isinstance(value, Tensor):
            return value
        if value.axes is None:
            mean = self.emit("AveragePool", [value.x.name], value.shape, **(value.window or {}))
            scale = self.constant(np.float32(value.count))
            return self.emit("Mul", [mean.name, scale], value.shape)
        axes = _map_axes(value.axes, len(value.x.shape))
        inputs = [value.x.name, self.constant(np.array(axes))]
        keep = int(len(value.shape) == len(value.x.shape))
        return self.emit("ReduceSum", inputs, value.shape, keepdims=keep)

    def divide_sum(self, value: Sum, divisor: Value) -> Tensor | None:
        """A mean, where sums are divided by their number."""
        if not isinstance(divisor, np.ndarray) or divisor.size != 1 or divisor != value.count:
            return None
        if value.axes is None:
            return self.emit("AveragePool", [value.x.name], value.shape, **(value.window or {}))
        keep = len(value.shape) == len(value.x.shape)
        if len(value.x.shape) == 4 and value.axes == (1, 2):
            channels = value.x.shape[3]
            pooled = self.emit("GlobalAveragePool", [value.x.name], (BATCH, 1, 1, channels))
            return pooled if keep else self.emit("Flatten", [pooled.name], value.shape, axis=1)
        axes = list(_map_axes(value.axes, len(value.x.shape)))
        if self.opset < 18:
            return self.emit(
                "ReduceMean", [value.x.name], value.shape, axes=axes, keepdims=int(keep)
            )
        inputs = [value.x.name, self.constant(np.array(axes))]
        return self.emit("ReduceMean", inputs, value.shape, keepdims=int(keep))

    # --- the program

    def run(self, program: Any, inputs: Sequence[Value]) -> list[Value]:
        """The outputs of a program, whose equations become nodes.

        Those that depend on nothing but constants are computed.
        """
        values: dict[Any, Value] = dict(zip(program.jaxpr.invars, inputs, strict=True))
        values |= dict(zip(program.jaxpr.constvars, map(np.asarray, program.consts), strict=True))

        def read(atom: Any) -> Value:
            return np.asarray(atom.val) if isinstance(atom, Literal) else values[atom]

        for equation in program.jaxpr.eqns:
            outputs = self._run_equation(equation, [read(atom) for atom in equation.invars])
            values |= dict(zip(equation.outvars, outputs, strict=True))
        return [read(atom) for atom in program.jaxpr.outvars]

    def _run_equation(self, equation: Any, operands: list[Value]) -> list[Value]:
        name, parameters = equation.primitive.name, equation.params
        inner = parameters.get("jaxpr") or parameters.get("call_jaxpr")
        if inner is not None:
            return self.run(inner, operands)
        if all(isinstance(each, np.ndarray) for each in operands):
            result = equation.primitive.bind(*operands, **parameters)
            several = equation.primitive.multiple_results
            return [np.asarray(each) for each in (result if several else [result])]
        emit = _EQUATIONS.get(name)
        if emit is None:
            raise UnsupportedError(
                f"a model with {name} cannot be exported: only layers of the zoo, sums, products, "
                f"means and moves between them"
            )
        shape = equation.outvars[0].aval.shape
        return [emit(self, shape, *operands, **parameters)]


def _map_axes(axes: Sequence[int], ndim: int) -> tuple[int, ...]:
    """Axes of the program as those of the graph."""
    return tuple(sorted(NCHW[axis] for axis in axes)) if ndim == 4 else tuple(axes)


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
    return e.emit("Concat", names, shape, axis=_map_axes((dimension,), len(shape))[0])


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


_EQUATIONS: dict[str, Callable[..., Value]] = {
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


def name_leaves(variables: Any) -> dict[int, str]:
    """The paths of arrays, by their identity: "stem/conv/kernel"."""
    return {
        id(leaf): "/".join(str(key.key) for key in path[1:])
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    }
