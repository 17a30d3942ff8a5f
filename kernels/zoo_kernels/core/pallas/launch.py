"""The door to Pallas: how a pass that is made of Triton kernels enters a JAX program.

Such a pass is a function of arrays that calls `run` once for each kernel. `Lazy` makes a primitive
of it, which is traced only when it is lowered, for three reasons. Every platform's branch of an
operator is traced wherever the program will run, and tracing kernels takes longer than all the
rest. A batch that is sharded over devices has to be partitioned, for which `custom_partitioning`
is asked at that moment. And `vmap` maps the pass before, which `custom_partitioning` would refuse.
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
from jax._src import dispatch as jax_dispatch
from jax.experimental.custom_partitioning import custom_partitioning
from jax.interpreters import batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

from zoo_kernels.core import sharding

# What an axis of an operand or a result is: the batch, its lanes, or whole on every device.
BATCH, LANES, WHOLE = "batch", "lanes", "whole"

_interpreting = contextvars.ContextVar("interpreting", default=False)


class Output(NamedTuple):
    """A result's shape and dtype; its first axis is the batch or the batch's lanes."""

    shape: tuple[int, ...]
    dtype: Any
    first: str = BATCH


DEPRECATED = (
    "jax has deprecated the backend of jax-zoo's GPU kernels (Pallas Triton). They go on working "
    "with every jax that jax-zoo allows (below 0.13), and will have moved before that bound does; "
    'implementation="xla" does without them.'
)


@functools.cache
def _tell() -> None:
    """Says it once, in place of jax, which would for each kernel and knows no way out."""
    warnings.warn(DEPRECATED, DeprecationWarning, stacklevel=2)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Lowers kernels without jax's warnings that their backend is deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The Pallas Triton backend", DeprecationWarning)
        yield


def run(
    body: Callable[..., None],
    name: str,
    grid: tuple[int, ...],
    warps: int,
    out: Sequence[jax.ShapeDtypeStruct],
    *arrays: jax.Array,
) -> list[jax.Array]:
    """Launches one kernel.

    Args:
      body: called with a reference to each array, flattened, and then to each result.
      name: what a profiler shows.
      grid: how many programs, along each axis; the first varies fastest. The kernel asks `position`
        where it is.
      warps: how many of 32 threads each make a program.
      out: the results' shapes and dtypes.
      *arrays: the operands.
    """
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    if jax.__version_info__ >= (0, 11) and not _interpreting.get():
        _tell()

    def kernel(*refs: Any) -> None:
        body(*refs)

    kernel.__name__ = name
    kind = jax.typeof(arrays[0]).manual_axis_type
    flat = pl.pallas_call(
        kernel,
        out_shape=[
            jax.ShapeDtypeStruct((math.prod(o.shape),), o.dtype, manual_axis_type=kind) for o in out
        ],
        grid=(math.prod(grid),),  # a GPU takes more than 65535 along one axis only
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=1),
        interpret=_interpreting.get(),
        name=name,
    )(*(a.reshape(-1) for a in arrays))
    return [a.reshape(o.shape) for a, o in zip(flat, out, strict=True)]


def position(grid: tuple[int, ...]) -> list[Any]:
    """Where a kernel's program is in its grid."""
    from jax.experimental import pallas as pl

    number, places = pl.program_id(0), []
    for extent in grid[:-1]:
        above = lax.div(number, jnp.int32(extent))
        places.append(number - above * extent)
        number = above
    return [*places, number]


@dataclasses.dataclass(frozen=True)
class Lazy:
    """A pass of an operator, `(static, *arrays)` → one array or a tuple, with Triton kernels in it.

    Sums over the batch are left unfinished: their results have a first axis of lanes, each of so
    many consecutive examples, and what is sharded over devices has whole lanes on each. `finish`
    adds them up, outside of the primitive, where XLA knows how to add over devices.

    Args:
      pass_: `pass_(static, images, *arrays)` → a tuple of arrays like `outputs`, by `run`. It is
        given the examples of one device, `images` of them to a lane.
      outputs: `outputs(static, lanes, *arrays)` → an `Output` for each result.
      batched: which of the arrays that are not None have the batch on their first axis, as
        `batched(static, *arrays)`. All devices have the same of the others.
      finish: `finish(static, results, *arrays)` → what the operator expects of the pass.
      interpret: by Pallas's interpreter, which runs on any platform.
    """

    pass_: Callable[..., Sequence[jax.Array]]
    outputs: Callable[..., Sequence[Output]]
    batched: Callable[..., Sequence[bool]]
    finish: Callable[..., Any]
    interpret: bool = False

    def __call__(self, spec: Any, *arrays: Any) -> Any:
        """Traces the pass as one primitive."""
        there = tuple(i for i, array in enumerate(arrays) if array is not None)
        firsts = [BATCH if b else WHOLE for b in self.batched(spec, *arrays)]
        batch = arrays[there[firsts.index(BATCH)]].shape[0]
        lanes = math.gcd(batch, jax.device_count())
        outputs = tuple(self.outputs(spec, lanes, *arrays))
        images = batch // lanes
        bind = functools.partial(
            _kernels_p.bind,
            fun=_jitted(self.pass_, spec, images, len(arrays), there, self.interpret),
            inputs=tuple(
                _axes(arrays[i].ndim, first) for i, first in zip(there, firsts, strict=True)
            ),
            outputs=tuple((o.shape, o.dtype, _axes(len(o.shape), o.first)) for o in outputs),
            lanes=lanes,
            images=images,
        )
        return self.finish(spec, _automatic(bind, outputs, [arrays[i] for i in there]), *arrays)


def _axes(ndim: int, first: str) -> tuple[str, ...]:
    return (first, *[WHOLE] * (ndim - 1))


def _automatic(
    bind: Callable[..., Any], outputs: Sequence[Output], arrays: Sequence[jax.Array]
) -> Sequence[jax.Array]:
    """bind(*arrays); on a mesh of explicit axes the results are sharded as the first array is."""
    partition_spec = sharding.partition_spec(arrays[0])
    partition_specs = [
        partition_spec
        if o.first == BATCH
        else (partition_spec[0], *[None] * (len(o.shape) - 2), partition_spec[-1])
        for o in outputs
    ]
    return sharding.auto_shard(bind, partition_specs, *arrays)


@functools.cache
def _jitted(
    pass_: Callable[..., Any],
    spec: Any,
    images: int,
    count: int,
    present: tuple[int, ...],
    interpret: bool,
) -> Callable[..., Any]:
    """The pass as a function of the arrays that are there; jitted, so that it is traced once."""

    def fun(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        full: list[Any] = [None] * count
        for place, array in zip(present, arrays, strict=True):
            full[place] = array
        token = _interpreting.set(interpret)
        try:
            return tuple(pass_(spec, images, *full))
        finally:
            _interpreting.reset(token)

    return jax.jit(fun)


_kernels_p = jax.extend.core.Primitive("triton_kernels")
_kernels_p.multiple_results = True
# As jax says of custom_partitioning_p itself, which this one is lowered to. It has no public name.
jax_dispatch.prim_requires_devices_during_lowering.add(_kernels_p)


@_kernels_p.def_impl
def _run(*arrays: jax.Array, fun: Callable[..., Any], **_: Any) -> Any:
    return fun(*arrays)


@_kernels_p.def_abstract_eval
def _types(*types: Any, outputs: Sequence[Any], **_: Any) -> list[Any]:
    # They vary over the axes of jax.shard_map that the operands all vary over (sharding.alike).
    return [
        types[0].update(
            shape=shape,
            dtype=jnp.dtype(dtype),
            weak_type=False,
            sharding=NamedSharding(types[0].sharding.mesh, PartitionSpec(*[None] * len(shape))),
        )
        for shape, dtype, _ in outputs
    ]


def _map(
    arrays: Sequence[jax.Array],
    mapped: Sequence[int | None],
    *,
    fun: Callable[..., Any],
    inputs: Sequence[tuple[str, ...]],
    outputs: Sequence[Any],
    **lanes: int,
) -> tuple[Any, list[int]]:
    """Maps the pass by vmap: the new axis comes first, and is whole on every device."""
    (size,) = {a.shape[m] for a, m in zip(arrays, mapped, strict=True) if m is not None}
    axes = [None if m is None else 0 for m in mapped]
    moved = [a if m is None else jnp.moveaxis(a, m, 0) for a, m in zip(arrays, mapped, strict=True)]
    results = _kernels_p.bind(
        *moved,
        fun=jax.jit(jax.vmap(fun, in_axes=axes)),
        inputs=tuple(
            own if m is None else (WHOLE, *own) for own, m in zip(inputs, axes, strict=True)
        ),
        outputs=tuple(((size, *shape), dtype, (WHOLE, *own)) for shape, dtype, own in outputs),
        **lanes,
    )
    return results, [0] * len(outputs)


batching.primitive_batchers[_kernels_p] = _map


def _lower(
    context: Any,
    *operands: Any,
    fun: Callable[..., Any],
    inputs: Sequence[tuple[str, ...]],
    outputs: Sequence[Any],
    lanes: int,
    images: int,
) -> Any:
    """Traces the pass, and has it partitioned where there are several devices."""
    # Inside jax.shard_map arrays have types of their own, which Pallas's kernels do not know.
    plain = context.replace(
        avals_in=[jax.core.ShapedArray(a.shape, a.dtype) for a in context.avals_in],
        avals_out=[jax.core.ShapedArray(a.shape, a.dtype) for a in context.avals_out],
    )
    devices = getattr(context.module_context.axis_context, "num_devices", 1)
    if devices > 1 and lanes > 1:
        fun = _partitioned(fun, inputs, outputs, lanes, images)
    with _quietly(), _nowhere():
        return mlir.lower_fun(fun, multiple_results=True)(plain, *operands)


@contextlib.contextmanager
def _nowhere() -> Iterator[None]:
    """Lowers kernels without the caller's mesh, of which each device's share knows nothing."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        yield
        return
    bare = jax.sharding.AbstractMesh((), (), abstract_device=mesh.abstract_device)
    with jax.sharding.use_abstract_mesh(bare):
        yield


mlir.register_lowering(_kernels_p, _lower)


def _partitioned(
    fun: Callable[..., Any],
    inputs: Sequence[tuple[str, ...]],
    outputs: Sequence[Any],
    lanes: int,
    images: int,
) -> Callable[..., Any]:
    """The pass, to be run by each device on its own lanes of the batch."""
    rows = [axes for *_, axes in outputs]
    whole = (f"whole{i}" for i in itertools.count())
    kept: list[str] = []  # in the order in which they occur, as Shardy wants it

    def name(axis: str) -> str:
        if axis == LANES:
            return "lane"
        factor = next(whole) if axis == WHOLE else "image"
        if factor not in kept:
            kept.append(factor)
        return factor if axis == WHOLE else "(lane image)"

    sides = [", ".join(" ".join(map(name, axes)) for axes in side) for side in (inputs, rows)]

    def partition(mesh: Any, operands: Any, results: Any) -> Any:
        def shardings(tree: Any) -> Any:
            return jax.tree.map(lambda a: a.sharding, tree)

        def local(*arrays: jax.Array) -> Any:
            with _nowhere():
                shapes = tuple((a.shape, a.dtype, ()) for a in jax.eval_shape(fun, *arrays))
            return _kernels_p.bind(
                *arrays, fun=fun, inputs=inputs, outputs=shapes, lanes=1, images=images
            )

        return mesh, local, shardings(results), shardings(operands)

    sizes = {"image": images}
    if not any(LANES in axes for axes in rows):  # else that axis tells it
        sizes["lane"] = lanes
    call = custom_partitioning(fun)
    call.def_partition(
        partition=partition,
        sharding_rule=" -> ".join(sides),
        need_replication_factors=tuple(kept),
        **sizes,
    )
    return call
