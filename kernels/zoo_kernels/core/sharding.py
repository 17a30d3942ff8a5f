"""Operands whose types carry a sharding: inside `jax.shard_map`, and on a mesh of explicit axes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def match_varying(*arrays: jax.Array | None) -> Any:
    """Makes all arrays vary over every manual axis (of `jax.shard_map`) that one varies over.

    `custom_vjp` wants a cotangent of its primal's type, and a gradient of replicated weights
    varies with the data. So weights are cast to varying beforehand; the cast's own gradient is
    the sum over devices. Outside `shard_map` nothing happens.
    """
    axes = [jax.typeof(a).manual_axis_type.varying if a is not None else set() for a in arrays]
    every = set[Any]().union(*axes)
    return tuple(
        a
        if a is None or not every - set(own)
        else lax.pcast(a, tuple(every - set(own)), to="varying")
        for a, own in zip(arrays, axes, strict=True)
    )


def auto_shard(
    call: Callable[..., Any], partition_specs: Sequence[tuple[Any, ...]], *arrays: jax.Array
) -> Any:
    """call(*arrays), a list of arrays; on a mesh of explicit axes the compiler shards inside.

    Args:
      specs: for each result the mesh axes of each of its axes; a mesh axis counts once.
    """
    mesh = jax.typeof(arrays[0]).sharding.mesh
    if AxisType.Explicit not in mesh.axis_types:
        return call(*arrays)
    shardings = [
        NamedSharding(mesh, PartitionSpec(*_once(partition_spec)))
        for partition_spec in partition_specs
    ]
    return jax.sharding.auto_axes(call, out_sharding=shardings)(*arrays)


def _once(partition_spec: tuple[Any, ...]) -> list[Any]:
    once: list[Any] = []
    for axes in partition_spec:
        names = {*(axes if isinstance(axes, tuple) else (axes,))}
        taken = {n for own in once for n in (own if isinstance(own, tuple) else (own,))}
        once.append(None if names & taken - {None} else axes)
    return once


def partition_spec(array: jax.Array) -> tuple[Any, ...]:
    """The mesh axes that each axis of an array is sharded over, where its type knows."""
    own = tuple(jax.typeof(array).sharding.spec)
    return own + (None,) * (array.ndim - len(own))


def match_sharding(gradient: jax.Array, primal: jax.Array) -> jax.Array:
    """A gradient laid out over a mesh of explicit axes as its primal is."""
    if partition_spec(gradient) == partition_spec(primal):
        return gradient
    return jax.sharding.reshard(gradient, jax.typeof(primal).sharding)
