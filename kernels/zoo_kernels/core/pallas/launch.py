"""Launches Pallas kernels, and makes JAX primitives of the passes that consist of them.

A pass is a function of arrays that calls `launch_kernel` once for each kernel. `TritonPass` makes a
primitive of it, which is traced only when it is lowered, for three reasons. Every platform's branch
of an operator is traced wherever the program will run, and tracing kernels takes longer than all
the rest. A batch that is sharded over devices has to be partitioned, and `custom_partitioning` is
consulted at that moment. And `vmap` batches the primitive first; `custom_partitioning` has no vmap.
"""

import contextlib
import contextvars
import dataclasses
import functools
import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
from jax import lax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.interpreters import batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

from zoo_kernels.core import jax_compat, sharding

# What an axis of an operand or a result holds: the batch, its shards (see `TritonPass`), or the
# same on every device.
BATCH, SHARDS, REPLICATED = "batch", "shards", "replicated"

_interpreting = contextvars.ContextVar("interpreting", default=False)


class Output(NamedTuple):
    """A result's shape and dtype, and whether its first axis is the batch or the batch's shards."""

    shape: tuple[int, ...]
    dtype: Any
    first_axis: str = BATCH


DEPRECATED = (
    "jax has deprecated the backend of jax-zoo's GPU kernels (Pallas Triton). They work with every "
    "jax that jax-zoo allows (below 0.13), and will have been ported before that bound is raised; "
    'implementation="xla" avoids them.'
)


@functools.cache
def _warn_deprecated() -> None:
    """Warns once, in place of jax, which would warn for each kernel and name no alternative."""
    warnings.warn(DEPRECATED, DeprecationWarning, stacklevel=2)


@contextlib.contextmanager
def _silence_jax_deprecation() -> Iterator[None]:
    """Ignores jax's own warnings that the kernels' backend is deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The Pallas Triton backend", DeprecationWarning)
        yield


def launch_kernel(
    body: Callable[..., None],
    name: str,
    grid: tuple[int, ...],
    warps: int,
    outputs: Sequence[jax.ShapeDtypeStruct],
    *arrays: jax.Array,
) -> list[jax.Array]:
    """Launches one kernel.

    Args:
      body: called with a reference to each array, flattened, and then to each output.
      name: what a profiler shows.
      grid: how many programs, along each axis; the first varies fastest. The kernel gets its
        place from `program_ids`.
      warps: how many warps, of 32 threads each, make a program.
      outputs: the outputs' shapes and dtypes.
      *arrays: the operands.
    """
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    if jax_compat.deprecates_pallas_triton() and not _interpreting.get():
        _warn_deprecated()

    def kernel(*refs: Any) -> None:
        body(*refs)

    kernel.__name__ = name
    flat = pl.pallas_call(
        kernel,
        out_shape=[
            jax_compat.shape_varying_like(arrays[0], (math.prod(o.shape),), o.dtype)
            for o in outputs
        ],
        grid=(math.prod(grid),),  # a GPU takes more than 65535 along one axis only
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=1),
        interpret=_interpreting.get(),
        name=name,
    )(*(a.reshape(-1) for a in arrays))
    return [a.reshape(o.shape) for a, o in zip(flat, outputs, strict=True)]


def program_ids(grid: tuple[int, ...]) -> list[Any]:
    """The program's index along each axis of the grid; to be called inside a kernel."""
    from jax.experimental import pallas as pl

    remaining, ids = pl.program_id(0), []
    for extent in grid[:-1]:
        quotient = lax.div(remaining, jnp.int32(extent))
        ids.append(remaining - quotient * extent)
        remaining = quotient
    return [*ids, remaining]


@dataclasses.dataclass(frozen=True)
class TritonPass:
    """A pass of an operator, `(spec, *arrays)` → one array or a tuple, made of Triton kernels.

    The batch consists of gcd(batch, devices) shards of consecutive examples, and an array that is
    sharded over devices has whole shards on each. Sums over the batch are left partial, one for
    each shard: their results have a first axis of shards. `finish` adds them up, outside of the
    primitive, where XLA knows how to add over devices.

    Args:
      launch: `launch(spec, shard_size, *arrays)` → a tuple of arrays like `outputs`, by
        `launch_kernel`. It is given the examples of one device, `shard_size` of them a shard.
      outputs: `outputs(spec, shards, *arrays)` → an `Output` for each result.
      is_batched: `is_batched(spec, *arrays)` → for each array that is not None, whether its first
        axis is the batch. The others are the same on all devices.
      finish: `finish(spec, results, *arrays)` → what the operator expects of the pass.
      interpret: runs the kernels by Pallas's interpreter, on any platform.
      portable: `portable(spec, *arrays)` → arrays like `outputs`, by XLA's operations: what
        `jax.export` takes in place of the kernels, of which jax does not promise that later
        versions know them. None where there is nothing of the kind; jax then refuses to export.
    """

    launch: Callable[..., Sequence[jax.Array]]
    outputs: Callable[..., Sequence[Output]]
    is_batched: Callable[..., Sequence[bool]]
    finish: Callable[..., Any]
    interpret: bool = False
    portable: Callable[..., Sequence[jax.Array]] | None = None

    def __call__(self, spec: Any, *arrays: Any) -> Any:
        """Binds the pass as one primitive."""
        present = tuple(i for i, array in enumerate(arrays) if array is not None)
        first_axes = [BATCH if b else REPLICATED for b in self.is_batched(spec, *arrays)]
        batch = arrays[present[first_axes.index(BATCH)]].shape[0]
        shards = math.gcd(batch, jax.device_count())
        outputs = tuple(self.outputs(spec, shards, *arrays))
        shard_size = batch // shards
        bind = functools.partial(
            _kernels_p.bind,
            fun=_jit_launch(self.launch, spec, shard_size, len(arrays), present, self.interpret),
            portable=self.portable and _jit_portable(self.portable, spec, len(arrays), present),
            inputs=tuple(
                _axes(arrays[i].ndim, first) for i, first in zip(present, first_axes, strict=True)
            ),
            outputs=tuple((o.shape, o.dtype, _axes(len(o.shape), o.first_axis)) for o in outputs),
            shards=shards,
            shard_size=shard_size,
        )
        results = _auto_shard(bind, outputs, [arrays[i] for i in present])
        return self.finish(spec, results, *arrays)


def first_result(spec: Any, results: Sequence[jax.Array], *_: Any) -> jax.Array:
    """Gives the first result: `TritonPass.finish` of a pass that has one."""
    return results[0]


def _axes(ndim: int, first_axis: str) -> tuple[str, ...]:
    return (first_axis, *[REPLICATED] * (ndim - 1))


def _auto_shard(
    bind: Callable[..., Any], outputs: Sequence[Output], arrays: Sequence[jax.Array]
) -> Sequence[jax.Array]:
    """bind(*arrays); on a mesh of explicit axes the results are sharded as the first array is."""
    partition_spec = sharding.partition_spec(arrays[0])
    partition_specs = [
        partition_spec
        if o.first_axis == BATCH
        else (partition_spec[0], *[None] * (len(o.shape) - 2), partition_spec[-1])
        for o in outputs
    ]
    return sharding.auto_shard(bind, partition_specs, *arrays)


@functools.cache
def _jit_launch(
    launch: Callable[..., Any],
    spec: Any,
    shard_size: int,
    arity: int,
    present: tuple[int, ...],
    interpret: bool,
) -> Callable[..., Any]:
    """The pass as a function of the arrays that are not None; jitted, so that it is traced once."""

    def fun(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        arguments = _place_arguments(arity, present, arrays)
        token = _interpreting.set(interpret)
        try:
            return tuple(launch(spec, shard_size, *arguments))
        finally:
            _interpreting.reset(token)

    return jax.jit(fun)


@functools.cache
def _jit_portable(
    portable: Callable[..., Any], spec: Any, arity: int, present: tuple[int, ...]
) -> Callable[..., Any]:
    """The same of what is exported."""

    def fun(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(portable(spec, *_place_arguments(arity, present, arrays)))

    return jax.jit(fun)


def _place_arguments(
    arity: int, present: Sequence[int], arrays: Sequence[jax.Array]
) -> list[jax.Array | None]:
    """A pass's arguments: the arrays in their places, and None elsewhere."""
    arguments: list[jax.Array | None] = [None] * arity
    for i, array in zip(present, arrays, strict=True):
        arguments[i] = array
    return arguments


_kernels_p = jax.extend.core.Primitive("triton_kernels")
_kernels_p.multiple_results = True
# As jax says of custom_partitioning_p itself, which this one is lowered to.
jax_compat.require_devices_during_lowering(_kernels_p)


@_kernels_p.def_impl
def _impl(*arrays: jax.Array, fun: Callable[..., Any], **_: Any) -> Any:
    return fun(*arrays)


@_kernels_p.def_abstract_eval
def _abstract_eval(*types: Any, outputs: Sequence[Any], **_: Any) -> list[Any]:
    # Results vary over the axes of jax.shard_map that the operands all vary over, by
    # sharding.match_varying.
    return [
        types[0].update(
            shape=shape,
            dtype=jnp.dtype(dtype),
            weak_type=False,
            sharding=NamedSharding(types[0].sharding.mesh, PartitionSpec(*[None] * len(shape))),
        )
        for shape, dtype, _ in outputs
    ]


def _batching_rule(
    arrays: Sequence[jax.Array],
    batch_axes: Sequence[int | None],
    *,
    fun: Callable[..., Any],
    portable: Callable[..., Any] | None,
    inputs: Sequence[tuple[str, ...]],
    outputs: Sequence[Any],
    **sizes: int,
) -> tuple[Any, list[int]]:
    """Maps the pass by vmap; the new axis comes first, and is replicated on every device."""
    (size,) = {a.shape[m] for a, m in zip(arrays, batch_axes, strict=True) if m is not None}
    in_axes = [None if m is None else 0 for m in batch_axes]
    moved = [
        a if m is None else jnp.moveaxis(a, m, 0) for a, m in zip(arrays, batch_axes, strict=True)
    ]
    results = _kernels_p.bind(
        *moved,
        fun=jax.jit(jax.vmap(fun, in_axes=in_axes)),
        portable=portable and jax.jit(jax.vmap(portable, in_axes=in_axes)),
        inputs=tuple(
            axes if m is None else (REPLICATED, *axes)
            for axes, m in zip(inputs, in_axes, strict=True)
        ),
        outputs=tuple(
            ((size, *shape), dtype, (REPLICATED, *axes)) for shape, dtype, axes in outputs
        ),
        **sizes,
    )
    return results, [0] * len(outputs)


batching.primitive_batchers[_kernels_p] = _batching_rule


def _lowering_rule(
    context: Any,
    *operands: Any,
    fun: Callable[..., Any],
    portable: Callable[..., Any] | None,
    inputs: Sequence[tuple[str, ...]],
    outputs: Sequence[Any],
    shards: int,
    shard_size: int,
) -> Any:
    """Traces the pass, and partitions it where there are several devices."""
    if portable is not None and jax_compat.is_exporting(context):
        fun, shards = portable, 1  # which the compiler partitions
    # Inside jax.shard_map arrays have types of their own, which Pallas's kernels do not know.
    plain = context.replace(
        avals_in=[jax.core.ShapedArray(a.shape, a.dtype) for a in context.avals_in],
        avals_out=[jax.core.ShapedArray(a.shape, a.dtype) for a in context.avals_out],
    )
    devices = getattr(context.module_context.axis_context, "num_devices", 1)
    if devices > 1 and shards > 1:
        fun = _partition_batch(fun, inputs, outputs, shards, shard_size)
    with _silence_jax_deprecation(), _without_mesh(), jax_compat.default_settings():
        return mlir.lower_fun(fun, multiple_results=True)(plain, *operands)


@contextlib.contextmanager
def _without_mesh() -> Iterator[None]:
    """Removes the caller's mesh: a kernel sees one device's arrays, and knows of no mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    device = mesh.abstract_device or jax_compat.stand_in_gpu()
    if mesh.empty and device is None:
        yield
        return
    bare = jax.sharding.AbstractMesh((), (), abstract_device=device)
    with jax.sharding.use_abstract_mesh(bare):
        yield


mlir.register_lowering(_kernels_p, _lowering_rule)


def _partition_batch(
    fun: Callable[..., Any],
    inputs: Sequence[tuple[str, ...]],
    outputs: Sequence[Any],
    shards: int,
    shard_size: int,
) -> Callable[..., Any]:
    """The pass as a `custom_partitioning`, which each device runs on its own shards of the batch.

    In its sharding rule the batch is two factors, "(shard example)".
    """
    output_axes = [axes for *_, axes in outputs]
    fresh_names = (f"replicated{i}" for i in itertools.count())
    replicated: list[str] = []  # factors, in the order in which they occur, as Shardy wants it

    def name_factor(axis: str) -> str:
        if axis == SHARDS:
            return "shard"
        factor = next(fresh_names) if axis == REPLICATED else "example"
        if factor not in replicated:
            replicated.append(factor)
        return factor if axis == REPLICATED else "(shard example)"

    sides = [
        ", ".join(" ".join(map(name_factor, axes)) for axes in side)
        for side in (inputs, output_axes)
    ]

    def partition(mesh: Any, operands: Any, results: Any) -> Any:
        def shardings(tree: Any) -> Any:
            return jax.tree.map(lambda a: a.sharding, tree)

        def run_locally(*arrays: jax.Array) -> Any:
            with _without_mesh():
                shapes = tuple((a.shape, a.dtype, ()) for a in jax.eval_shape(fun, *arrays))
            return _kernels_p.bind(
                *arrays,
                fun=fun,
                portable=None,
                inputs=inputs,
                outputs=shapes,
                shards=1,
                shard_size=shard_size,
            )

        return mesh, run_locally, shardings(results), shardings(operands)

    sizes = {"example": shard_size}
    if not any(SHARDS in axes for axes in output_axes):  # else the size of that axis says it
        sizes["shard"] = shards
    call = custom_partitioning(fun)
    call.def_partition(
        partition=partition,
        sharding_rule=" -> ".join(sides),
        need_replication_factors=tuple(replicated),
        **sizes,
    )
    return call
