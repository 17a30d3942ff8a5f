"""Access to what jax may rename or change: version gates, undocumented names, barriers.

Names are looked up when they are used, so that importing this package needs none of them. Where
one is missing, the functions that a CPU needs do without it: slower, or without a check, but with
the same values. Those that only the Triton kernels need raise AttributeError or ImportError.
"""

import contextlib
import functools
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

# --- Version gates


@functools.cache
def version() -> tuple[int, ...]:
    """This jax's version, such as (0, 10, 2)."""
    return tuple(int(part) for part in jax.__version__.split(".")[:3] if part.isdigit())


def keeps_barriers() -> bool:
    """Whether the compiler for CPUs fuses before it removes optimisation barriers."""
    return version() >= (0, 11)


def has_onednn_convolutions() -> bool:
    """Whether the option for oneDNN has an effect on convolutions."""
    return version() >= (0, 11)


def deprecates_pallas_triton() -> bool:
    """Whether jax warns that the Triton backend of Pallas is deprecated."""
    return version() >= (0, 11)


# --- The state of tracing


def inside_trace(operands: Any) -> bool:
    """Whether a transformation of jax is being traced, such as jit, grad or vmap.

    Args:
      operands: those of the caller; where jax does not give its state, tracers show it.
    """
    state = _trace_state()
    if state is None:
        arrays = [*jax.tree.leaves(operands), jnp.zeros(())]
        return any(isinstance(array, jax.core.Tracer) for array in arrays)
    return bool(state != _top_level_state())


def _trace_state() -> Any:
    """An object that compares equal as long as the same trace is current."""
    try:
        from jax.extend.core import get_opaque_trace_state
    except ImportError:
        return None
    return get_opaque_trace_state()


@functools.cache
def _top_level_state() -> Any:
    """The state outside of all traces, which every new thread begins with."""
    states: list[Any] = []
    thread = threading.Thread(target=lambda: states.append(_trace_state()))
    thread.start()
    thread.join()
    return states[0]


class TraceContext:
    """A value that is part of the key of jax's caches of traces: a new one makes jax trace anew.

    Without `jax.make_user_context` it always has its default.
    """

    def __init__(self, default: Any) -> None:
        make = getattr(jax, "make_user_context", None)
        self._default, self._context = default, make and make(default_value=default)

    @property
    def value(self) -> Any:
        """The current value."""
        return self._default if self._context is None else self._context.value

    def __call__(self, value: Any) -> contextlib.AbstractContextManager[None]:
        """Sets the value inside a `with` block."""
        return contextlib.nullcontext() if self._context is None else self._context(value)


def backend_platforms() -> set[str] | None:
    """The platforms that jax has a backend for in this process, or None if it does not tell."""
    try:
        from jax.extend.backend import backends
    except ImportError:
        return None
    return set(backends())


def config_value(name: str) -> Any:
    """A setting of jax, such as "jax_enable_x64"; None if this jax has no such setting."""
    return getattr(jax.config, name, None)


def reset_compilation_cache() -> None:
    """Lets jax's cache of compiled programs read its settings anew, where jax can."""
    try:
        from jax.experimental.compilation_cache.compilation_cache import reset_cache
    except ImportError:
        return
    reset_cache()


def standard_promotion() -> contextlib.AbstractContextManager[Any]:
    """Lets arrays of different ranks and dtypes meet inside a `with` block.

    For the operators' own code, where the user has jax refuse that (`jax_numpy_rank_promotion`,
    `jax_numpy_dtype_promotion`).
    """
    stack = contextlib.ExitStack()
    if config_value("jax_numpy_rank_promotion") not in (None, "allow"):
        stack.enter_context(jax.numpy_rank_promotion("allow"))
    if config_value("jax_numpy_dtype_promotion") not in (None, "standard"):
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
    return stack


def default_settings() -> contextlib.AbstractContextManager[Any]:
    """Traces as under jax's default settings inside a `with` block: for GPU kernels.

    They compute in float32 and count in int32, which `jax_enable_x64` would widen.
    """
    stack = contextlib.ExitStack()
    stack.enter_context(standard_promotion())
    if config_value("jax_enable_x64"):
        stack.enter_context(jax.enable_x64(False))
    return stack


# --- Optimisation barriers


def barrier(operands: Any) -> Any:
    """Identity that keeps XLA from optimising across it.

    Its uses:

    * an array that several loops read (padded, normalised) is written once: XLA otherwise computes
      an elementwise array again inside everything that takes it;
    * a kernel that was flipped, or an operand that was transposed, is written as such: XLA
      otherwise makes it a property of the convolution, which oneDNN then does not take;
    * an activation is recomputed when its gradient's operands are there, and not before.
    """
    barrier_or_none = getattr(lax, "optimization_barrier", None)
    return operands if barrier_or_none is None else barrier_or_none(operands)


# --- Types of arrays inside `jax.shard_map`


def varying_axes(array: Any) -> frozenset[str]:
    """The manual mesh axes that an array varies over; none outside of `jax.shard_map`."""
    kind = getattr(jax.typeof(array), "manual_axis_type", None)
    return frozenset() if kind is None else frozenset(kind.varying)


def shape_varying_like(array: Any, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    """A result's shape and dtype; it varies over the manual mesh axes that `array` does."""
    kind = getattr(jax.typeof(array), "manual_axis_type", None)
    options = {} if kind is None else {"manual_axis_type": kind}
    return jax.ShapeDtypeStruct(shape, dtype, **options)


# --- Primitives


def make_identity_primitive(name: str, lower: Callable[..., list[Any]]) -> Callable[..., Any]:
    """The identity, lowered by `lower(context, x, **parameters)`: called as f(x, **parameters).

    Where jax lacks what primitives are made of, it is the plain identity.
    """
    try:
        from jax.extend.core import Primitive
        from jax.interpreters import batching, mlir

        primitive = Primitive(name)
        primitive.def_impl(lambda x, **_: x)  # with jit disabled
        primitive.def_abstract_eval(lambda x, **_: x)
        batching.defvectorized(primitive)
        mlir.register_lowering(primitive, lower)
    except (ImportError, AttributeError):
        return lambda x, **_: x
    return primitive.bind


def is_exporting(context: Any) -> bool:
    """Whether a program is lowered for `jax.export`, by the context of a lowering rule."""
    parameters = getattr(context.module_context, "lowering_parameters", None)
    return bool(getattr(parameters, "for_export", False))


def require_devices_during_lowering(primitive: Any) -> None:
    """Lets a primitive be lowered to `custom_partitioning`, which asks for the devices."""
    from jax._src import dispatch

    dispatch.prim_requires_devices_during_lowering.add(primitive)


@functools.cache
def stand_in_gpu() -> Any:
    """A GPU for Pallas to lower for where there is none; None where there is one.

    From jax 0.11 on Pallas reads a device's name and its number of cores while it lowers. Our
    kernels depend on neither.
    """
    if version() < (0, 11):
        return None
    try:
        jax.devices("gpu")
    except RuntimeError:
        return jax.sharding.AbstractDevice("NVIDIA H100", num_cores=132, platform="gpu")
    return None
