"""Where the arrays of a training lie: batches over all devices, parameters on each or spread."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"
# Smaller arrays stay whole on every device: spreading them saves nothing.
MIN_SHARDED_SIZE = 1 << 16


@dataclasses.dataclass(frozen=True)
class Placement:
    """A mesh of devices, and how arrays are laid on it.

    Args:
      mesh: of one axis, over which batches are spread.
      shard_params: spreads large arrays of the state too, along their longest axis that the
        devices divide (as FSDP does).
    """

    mesh: Mesh
    shard_params: bool = False

    @property
    def replicated(self) -> NamedSharding:
        """The whole array on each device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def shardings(self, state: Any) -> Any:
        """How each array of a state, or of its shapes, is laid."""
        return jax.tree.map(self._sharding, state)

    def _sharding(self, array: Any) -> NamedSharding:
        shape, count = array.shape, self.mesh.size
        divisible = [axis for axis, n in enumerate(shape) if n % count == 0 and n]
        if not self.shard_params or array.size < MIN_SHARDED_SIZE or not divisible:
            return self.replicated
        longest = max(divisible, key=lambda axis: shape[axis])
        spec = [AXIS if axis == longest else None for axis in range(len(shape))]
        return NamedSharding(self.mesh, PartitionSpec(*spec))

    def put_state(self, state: Any) -> Any:
        """A copy of a state, of which every process has the same one, on the devices."""

        def put(array: Any, sharding: NamedSharding) -> jax.Array:
            if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
                data = put(jax.random.key_data(array), sharding)
                return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
            host = np.asarray(array)
            return jax.make_array_from_callback(
                host.shape, sharding, lambda part: host[part].copy()
            )

        return jax.tree.map(put, state, self.shardings(state))

    def put_batch(self, batch: Any) -> Any:
        """Arrays of one length, of which this process has its part, spread over the devices."""
        sharding = NamedSharding(self.mesh, PartitionSpec(AXIS))
        return jax.tree.map(
            lambda array: jax.make_array_from_process_local_data(sharding, array), batch
        )

    def largest(self, numbers: Sequence[int]) -> Any:
        """The largest of each number over all processes, as an array that is soon there."""
        if jax.process_count() == 1:
            return np.array(numbers)
        rows = np.tile(np.array(numbers, np.int32), (len(self.mesh.local_devices), 1))
        return _compile(_largest_of_rows, self.replicated)(self.put_batch(rows))

    def replicate(self, arrays: Any) -> Any:
        """The whole arrays on each device."""
        return _compile(_identity, self.replicated)(arrays)

    def is_finite(self, arrays: Any) -> bool:
        """Whether all values are finite numbers."""
        return bool(_compile(_all_finite, self.replicated)(arrays))

    def gather(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The whole arrays on the host, of each process."""
        whole = self.replicate(variables) if self.shard_params else variables
        return jax.tree.map(np.array, dict(whole))


@functools.lru_cache(maxsize=16)
def _compile(function: Callable[[Any], Any], sharding: NamedSharding) -> Callable[[Any], Any]:
    return jax.jit(function, out_shardings=sharding)


def _identity(arrays: Any) -> Any:
    return arrays


def _all_finite(arrays: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(array).all() for array in jax.tree.leaves(arrays)]).all()


def _largest_of_rows(rows: jax.Array) -> jax.Array:
    return rows.max(0)


def make_placement(shard_params: bool = False) -> Placement:
    """All devices of all processes, in one mesh."""
    mesh = jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))
    return Placement(mesh, shard_params)
