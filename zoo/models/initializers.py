"""Initial values: all random ones of a model come from a single draw.

XLA compiles every draw of random numbers anew, in up to 0.4 s on two cores, and a model has a
hundred. So while a model's shapes are traced, its layers only record each parameter's initializer;
then one program draws the numbers for all parameters and splits them.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

ModulePath = tuple[str, ...]


class Normal(NamedTuple):
    """Normal distribution of mean 0."""

    std: float

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """An array by a draw of its own."""
        return self.std * jax.random.normal(key, shape, dtype)


class Constant(NamedTuple):
    """One value for all entries."""

    value: float

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """The array; the key is not used."""
        return jnp.full(shape, self.value, dtype)


Initializer = Normal | Constant
ZEROS, ONES = Constant(0.0), Constant(1.0)

_recorded: ContextVar[dict[ModulePath, Initializer] | None] = ContextVar("recorded", default=None)


def he_normal(shape: tuple[int, ...], groups: int = 1) -> Normal:
    """He et al. 2015, arXiv 1502.01852, by fan-out, for a kernel [kh, kw, in / groups, out].

    An input feeds the outputs of its own group only.
    """
    return Normal(math.sqrt(2 * groups / (shape[0] * shape[1] * shape[3])))


@contextlib.contextmanager
def record_initializers() -> Iterator[dict[ModulePath, Initializer]]:
    """Collects the initializers of variables traced inside: (collection, module…, name) → one."""
    recorded: dict[ModulePath, Initializer] = {}
    token = _recorded.set(recorded)
    try:
        yield recorded
    finally:
        _recorded.reset(token)


def record(path: ModulePath, initializer: Initializer) -> Callable[..., jax.Array]:
    """Records a variable's initializer if somebody collects them.

    Returns:
      The function to make the variable with: the initializer, or while they are collected a
      cheaper one to trace.
    """
    recorded = _recorded.get()
    if recorded is not None:
        recorded[path] = initializer
        initializer = ZEROS
    return initializer.__call__


def initialize(key: jax.Array, shapes: Any, initializers: dict[ModulePath, Initializer]) -> Any:
    """Makes arrays of the shapes by their initializers, with a single draw.

    Args:
      key: a random key.
      shapes: nested dictionaries of `jax.ShapeDtypeStruct`.
      initializers: one for each path of them.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(shapes)
    specs = tuple(
        (initializers[tuple(entry.key for entry in path)], leaf.shape, leaf.dtype)
        for path, leaf in leaves
    )
    return jax.tree.unflatten(structure, _draw(specs, key))


@functools.partial(jax.jit, static_argnums=0)
def _draw(
    specs: tuple[tuple[Initializer, tuple[int, ...], Any], ...], key: jax.Array
) -> list[jax.Array]:
    total = sum(math.prod(shape) for init, shape, _ in specs if isinstance(init, Normal))
    numbers = jax.random.normal(key, (total,))
    arrays, start = [], 0
    for init, shape, dtype in specs:
        if isinstance(init, Normal):
            stop = start + math.prod(shape)
            drawn = jax.lax.slice(numbers, (start,), (stop,)).reshape(shape)
            arrays.append((init.std * drawn).astype(dtype))
            start = stop
        else:
            arrays.append(init(key, shape, dtype))
    return arrays
