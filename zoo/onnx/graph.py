"""The graph of an ONNX model, in plain Python: nodes, constants, inputs and outputs."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

# The domain of the operators of the standard.
STANDARD = ""


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """An input or output of a graph.

    Args:
      name: of the value.
      dtype: of its elements; None where the model does not say, or it is no tensor.
      shape: numbers, and names or None of dimensions that are free; None where it is not known.
    """

    name: str
    dtype: np.dtype | None = None
    shape: tuple[int | str | None, ...] | None = None

    def __str__(self) -> str:
        dtype = "of any type" if self.dtype is None else str(self.dtype)
        if self.shape is None:
            return f"{self.name}: {dtype}"
        sides = ", ".join("?" if side is None else str(side) for side in self.shape)
        return f"{self.name}: {dtype} [{sides}]"


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """A call of an operator.

    Args:
      op: the operator's name.
      domain: the operator's domain; "" is the standard's.
      version: of the operator set that the model means.
      name: of the node.
      inputs: names of values; "" is an optional one that is left out.
      outputs: names of values; "" is one that nobody reads.
      attributes: numbers, strings, arrays, graphs, and lists of these.
    """

    op: str
    domain: str
    version: int
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @property
    def label(self) -> str:
        """Its name, or that of its first output, or of its operator."""
        return self.name or next(filter(None, self.outputs), self.op)

    @property
    def title(self) -> str:
        """As messages name it."""
        return self.op if self.label == self.op else f"{self.op} {self.label!r}"

    def graphs(self) -> Iterator["Graph"]:
        """The graphs inside it: branches and bodies of loops."""
        for value in self.attributes.values():
            if isinstance(value, Graph):
                yield value


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in an order in which they can be computed.

    Args:
      name: of the graph.
      nodes: the calls.
      inputs: what has to be given; without those that have a constant.
      outputs: what it computes.
      constants: arrays by the names of values, from initializers and nodes `Constant`.
    """

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    constants: Mapping[str, np.ndarray]

    def all_nodes(self) -> Iterator[Node]:
        """The nodes, each followed by those of the graphs inside it."""
        for node in self.nodes:
            yield node
            for graph in node.graphs():
                yield from graph.all_nodes()

    def captured(self) -> set[str]:
        """The names of values from outside that it reads, as graphs inside a node may."""
        defined = {info.name for info in self.inputs} | set(self.constants)
        read: set[str] = set()
        for node in self.nodes:
            read |= {name for name in node.inputs if name} - defined
            for graph in node.graphs():
                read |= graph.captured() - defined
            defined |= set(node.outputs)
        return read | ({info.name for info in self.outputs} - defined)
