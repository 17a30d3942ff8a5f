"""Turns a traced program into the nodes of an ONNX graph.

Activations are [N, H, W, C] in the program and [N, C, H, W] in the graph: nothing is moved for it
but where axes of height and width go into a vector.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from zoo.onnx.errors import UnsupportedError
from zoo.onnx.load import import_onnx
from zoo.onnx.trace import BATCH

# For each axis of an array in the program, its axis in the graph.
NCHW = (0, 2, 3, 1)
# What initializers are called that are no parameters.
CONSTANT = "constant"


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
      equations: what emits the nodes of an equation, by the name of its primitive: the emitter, the
        shape of the result, and the operands, with the equation's parameters by name → the result.
    """

    def __init__(self, opset: int, equations: Mapping[str, Callable[..., Value]]) -> None:
        self.opset, self.onnx, self.equations = opset, import_onnx(), equations
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

    def constant(self, array: Any, wanted: str = CONSTANT) -> str:
        """The name of an initializer; of a number that is no parameter there is but one."""
        array = np.asarray(array)
        if wanted == CONSTANT:
            for name, other in self.initializers.items():
                same = name.startswith(CONSTANT) and other.dtype == array.dtype
                if same and np.array_equal(other, array):
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
        axes = map_axes(value.axes, len(value.x.shape))
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
        axes = list(map_axes(value.axes, len(value.x.shape)))
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
        emit = self.equations.get(name)
        if emit is None:
            raise UnsupportedError(
                f"a model with {name} cannot be exported: only layers of the zoo, sums, products, "
                f"means and moves between them"
            )
        shape = equation.outvars[0].aval.shape
        return [emit(self, shape, *operands, **parameters)]


def map_axes(axes: Sequence[int], ndim: int) -> tuple[int, ...]:
    """Axes of the program as those of the graph."""
    return tuple(sorted(NCHW[axis] for axis in axes)) if ndim == 4 else tuple(axes)


def name_leaves(variables: Any) -> dict[int, str]:
    """The paths of arrays, by their identity: "stem/conv/kernel"."""
    return {
        id(leaf): "/".join(str(key.key) for key in path[1:])
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    }
