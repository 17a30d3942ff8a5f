"""Which function computes an operator, by its name and version."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.onnx.graph import STANDARD, Graph, Node

# Values of a graph: arrays that are known (NumPy's) or computed (jax's), sequences of them, and
# None for what is left out.
Value = Any
Run = Callable[..., Any]
# All inputs.
EVERY = range(1 << 20)


@dataclasses.dataclass(frozen=True)
class Kernel:
    """The kernel of a convolution of images, kept in the zoo's layout: to move it takes time.

    Args:
      hwio: [kh, kw, in / groups, out].
    """

    hwio: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """[out, in / groups, kh, kw], as in ONNX."""
        height, width, channels, features = self.hwio.shape
        return features, channels, height, width

    @property
    def dtype(self) -> Any:
        """Of the elements."""
        return self.hwio.dtype

    @property
    def oihw(self) -> Any:
        """The array in ONNX's layout."""
        return self.hwio.transpose(3, 2, 0, 1)


@dataclasses.dataclass(frozen=True)
class Operator:
    """A version of an operator.

    Args:
      since: the first version of the operator set that it is of.
      run: the function: a `Call`, and the inputs → one output, or a tuple of them.
      known: numbers of inputs whose values shape the program, and so must be known before it is
        compiled.
    """

    since: int
    run: Run
    known: Sequence[int]


@dataclasses.dataclass(frozen=True)
class Call:
    """What an operator's function is told of its node.

    Args:
      node: the node.
      run_graph: computes a graph inside the node: the graph, and its inputs → its outputs.
    """

    node: Node
    run_graph: Callable[[Graph, Sequence[Value]], list[Value]]

    @property
    def version(self) -> int:
        """Of the operator set that the model means."""
        return self.node.version

    @property
    def outputs(self) -> int:
        """How many outputs are wanted."""
        return len(self.node.outputs)

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute's value."""
        return self.node.attributes.get(name, default)

    def text(self, name: str, default: str) -> str:
        """An attribute's value as a string."""
        value = self.get(name, default)
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


_OPERATORS: dict[tuple[str, str], list[Operator]] = {}


def operator(
    *names: str, since: int = 1, known: Sequence[int] = (), domain: str = STANDARD
) -> Callable[[Run], Run]:
    """Registers a function for operators, from a version on; see `Operator`."""

    def register(run: Run) -> Run:
        for name in names:
            versions = _OPERATORS.setdefault((domain, name), [])
            versions.append(Operator(since, run, known))
            versions.sort(key=lambda each: each.since)
        return run

    return register


def find(node: Node) -> Operator | None:
    """The newest version of a node's operator that is not above the model's; None without any."""
    versions = _OPERATORS.get((node.domain, node.op), ())
    fitting = [each for each in versions if each.since <= node.version]
    return fitting[-1] if fitting else None


def find_missing(nodes: Iterable[Node]) -> list[str]:
    """The operators of nodes that are not there, each as "domain.Name (version 9)", sorted."""
    missing = {
        f"{node.domain + '.' if node.domain else ''}{node.op} (version {node.version})"
        for node in nodes
        if find(node) is None
    }
    return sorted(missing)


def is_known(value: Value) -> bool:
    """Whether a value is known before the program is compiled."""
    if isinstance(value, list):
        return all(map(is_known, value))
    return value is None or isinstance(value, np.ndarray)


def numeric(*values: Value) -> Any:
    """NumPy if all of the values are known, so that they stay so; else `jax.numpy`."""
    return np if all(map(is_known, values)) else jnp


def cast(x: Value, dtype: Any) -> Value:
    """An array in a dtype of ONNX; those of 64 bits are jax's of 32 where jax has no other."""
    if isinstance(x, np.ndarray):
        return x.astype(dtype)
    return x.astype(jax.dtypes.canonicalize_dtype(dtype))
