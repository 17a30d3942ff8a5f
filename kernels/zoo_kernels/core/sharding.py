"""Operands whose types carry a sharding: inside `jax.shard_map`, and on a mesh of explicit axes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from zoo_kernels.core import jax_compat


def match_varying(*arrays: jax.Array | None) -> Any:
    """Makes all arrays vary over every manual axis (of `jax.shard_map`) that one varies over.

    `custom_vjp` wants a cotangent of its primal's type, and a gradient of replicated weights
    varies with the data. So weights are cast to varying beforehand; the cast's own gradient is
    the sum over devices. Outside `shard_map` nothing happens.
    """
    axes = [jax_compat.varying_axes(a) if a is not None else frozenset() for a in arrays]
    all_axes = frozenset[Any]().union(*axes)
    return tuple(
        a
        if a is None or varying == all_axes
        else lax.pcast(a, tuple(all_axes - varying), to="varying")
        for a, varying in zip(arrays, axes, strict=True)
    )


def auto_shard(
    call: Callable[..., Any], partition_specs: Sequence[tuple[Any, ...]], *arrays: jax.Array
) -> Any:
    """Runs call(*arrays) → list of arrays; on a mesh of explicit axes the compiler shards inside.

    Args:
      partition_specs: for each result the mesh axes of each of its axes. A mesh axis counts where
        it occurs first.
    """
    mesh = jax.typeof(arrays[0]).sharding.mesh
    if AxisType.Explicit not in mesh.axis_types:
        return call(*arrays)
    shardings = [
        NamedSharding(mesh, PartitionSpec(*_drop_repeated(partition_spec)))
        for partition_spec in partition_specs
    ]
    return jax.sharding.auto_axes(call, out_sharding=shardings)(*arrays)


def _drop_repeated(partition_spec: tuple[Any, ...]) -> list[Any]:
    """Replaces by None what names a mesh axis that occurred before."""
    result: list[Any] = []
    seen: set[Any] = set()
    for axes in partition_spec:
        names = {*(axes if isinstance(axes, tuple) else (axes,))} - {None}
        result.append(None if names & seen else axes)
        seen |= names if result[-1] is not None else set()
    return result


def partition_spec(array: jax.Array) -> tuple[Any, ...]:
    """The mesh axes that each axis of an array is sharded over, where its type knows."""
    axes = tuple(jax.typeof(array).sharding.spec)
    return axes + (None,) * (array.ndim - len(axes))


def match_sharding(gradient: jax.Array, primal: jax.Array) -> jax.Array:
    """Lays a gradient out over a mesh of explicit axes as its primal is."""
    if partition_spec(gradient) == partition_spec(primal):
        return gradient
    return jax.sharding.reshard(gradient, jax.typeof(primal).sharding)
