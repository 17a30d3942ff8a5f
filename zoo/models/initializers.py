"""Initial values: all random ones of a model come from a single draw.

XLA compiles every draw of random numbers anew, in up to 0.4 s on two cores, and a model has a
hundred. So while a model's shapes are traced, its layers only note what each parameter is to be;
then one program draws numbers for all of them and deals them out.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Path = tuple[str, ...]


class Normal(NamedTuple):
    """Normally distributed around 0."""

    std: float

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """An array of its own draw."""
        return self.std * jax.random.normal(key, shape, dtype)


class Constant(NamedTuple):
    """The same everywhere."""

    value: float

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """The array; the key is not used."""
        return jnp.full(shape, self.value, dtype)


Initial = Normal | Constant
ZEROS, ONES = Constant(0.0), Constant(1.0)

_noted: ContextVar[dict[Path, Initial] | None] = ContextVar("noted", default=None)


def he(shape: tuple[int, ...], groups: int = 1) -> Normal:
    """He et al. 2015, arXiv 1502.01852, by fan-out, for a kernel [kh, kw, in / groups, out].

    An input feeds the outputs of its own group only.
    """
    return Normal(math.sqrt(2 * groups / (shape[0] * shape[1] * shape[3])))


@contextlib.contextmanager
def noting() -> Iterator[dict[Path, Initial]]:
    """What is noted inside: (collection, module…, name) → how it is to begin."""
    noted: dict[Path, Initial] = {}
    token = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(token)


def note(path: Path, initial: Initial) -> Callable[..., jax.Array]:
    """Notes how a variable begins; → what stands in for it while shapes are traced."""
    noted = _noted.get()
    if noted is not None:
        noted[path] = initial
        initial = ZEROS
    return initial.__call__


def draw(key: jax.Array, shapes: Any, noted: dict[Path, Initial]) -> Any:
    """Arrays of the shapes, as they were noted.

    Args:
      key: a random key.
      shapes: nested dictionaries of `jax.ShapeDtypeStruct`.
      noted: an entry for each of them.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(shapes)
    plan = tuple(
        (noted[tuple(entry.key for entry in path)], leaf.shape, leaf.dtype) for path, leaf in leaves
    )
    return jax.tree.unflatten(structure, _deal(plan, key))


@functools.partial(jax.jit, static_argnums=0)
def _deal(plan: tuple[tuple[Initial, tuple[int, ...], Any], ...], key: jax.Array) -> list[Any]:
    total = sum(math.prod(shape) for initial, shape, _ in plan if isinstance(initial, Normal))
    numbers = jax.random.normal(key, (total,))
    arrays, start = [], 0
    for initial, shape, dtype in plan:
        if isinstance(initial, Normal):
            stop = start + math.prod(shape)
            own = jax.lax.slice(numbers, (start,), (stop,)).reshape(shape)
            arrays.append((initial.std * own).astype(dtype))
            start = stop
        else:
            arrays.append(initial(key, shape, dtype))
    return arrays
