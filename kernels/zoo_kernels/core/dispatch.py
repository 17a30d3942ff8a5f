"""Which implementation of an operator runs: a registry, a choice, and `explain`.

An implementation gives an operator's passes ("forward", "input_grad"…) as pure functions
`pass_(spec, *arrays)`; `spec` is the operator's hashable description of the call. To add one takes
a module with an `Implementation`, and a place in `zoo_kernels.implementations`.

The choice follows the platform that a computation is lowered for, not the default device: where
some platform has an implementation of its own, all of them are traced behind
`jax.lax.platform_dependent`, unless the platform is known already (`compiler.target_platform`).
"""

import contextlib
import contextvars
import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax

from zoo_kernels.core import compiler, jax_compat, lowering

Requested = str | Sequence[str] | None
Passes = Mapping[str, Callable[..., Any]]

# Stands for all platforms that are not named.
ANY = "any"
# The implementation in plain lax and jnp, which operators run without `jax.custom_vjp`.
LAX = "lax"


@dataclasses.dataclass(frozen=True)
class Implementation:
    """One way to compute an operator.

    Args:
      name: what a caller writes as `implementation=`.
      passes: the operator's passes by name, each a pure function `pass_(spec, *arrays)`.
      platforms: the platforms ("cpu", "cuda", …) that it runs on; empty for all.
      unsupported: `unsupported(spec, *arrays)` gives the reason why it cannot do this call, or None
        if it can.
      defers: `defers(pass_name, spec, *arrays)` gives the reason why another implementation is the
        better default for this pass, or None. A request by name overrules it.
      describe: `describe(pass_name, spec, *arrays)` gives what `explain` adds on how this
        implementation does the pass, or None.
      by_name_only: it never is the default, whatever the call.
    """

    name: str
    passes: Passes
    platforms: tuple[str, ...] = ()
    unsupported: Callable[..., str | None] = lambda spec, *arrays: None
    defers: Callable[..., str | None] = lambda pass_name, spec, *arrays: None
    describe: Callable[..., str | None] = lambda pass_name, spec, *arrays: None
    by_name_only: bool = False


class Choice(NamedTuple):
    """What runs for one pass of one operator on one platform ("any": all not named), and why."""

    op: str
    pass_name: str
    platform: str
    implementation: str
    reason: str


_registry: dict[str, dict[str, Implementation]] = {}
_recorders: contextvars.ContextVar[tuple[list[Choice], ...]] = contextvars.ContextVar(
    "recorders", default=()
)
# A new value makes jax trace anew, and so choose anew.
_trace_key = jax_compat.TraceContext(default=None)
_default_request = jax_compat.TraceContext(default=None)


def register(op: str, *implementations: Implementation) -> None:
    """Adds implementations of an operator; on its platforms a later one is the better default."""
    registered = _registry.setdefault(op, {})
    for implementation in implementations:
        if implementation.name in registered:
            raise ValueError(f"{op}: there is an implementation {implementation.name!r} already")
        registered[implementation.name] = implementation


@contextlib.contextmanager
def using(implementation: str | Sequence[str]) -> Iterator[None]:
    """Makes an implementation the default of every operator that is traced in the `with` block.

        with zoo.kernels.using("lax"):
            tangent = jax.jvp(f, (x,), (dx,))

    "lax" is plain lax and jnp, differentiated by jax itself: for forward mode (`jax.jvp`,
    `jax.jacfwd`, Hessian-vector products), which the other implementations refuse, for converters
    that do not know `jax.custom_vjp`, and for debugging. On a CPU it is many times as slow.

    Args:
      implementation: a name, or a sequence of names to be tried in order. Operators that have none
        of them, and calls with an `implementation` of their own, are not affected.

    Raises:
      ValueError: no operator has an implementation of that name.
    """
    names = (implementation,) if isinstance(implementation, str) else tuple(implementation)
    known = sorted({name for registered in _registry.values() for name in registered})
    for name in names:
        if name not in known:
            raise ValueError(f"using: unknown implementation {name!r}; known: {', '.join(known)}")
    with _default_request(names):
        yield


def resolve_call(op: str, requested: Requested, call: Any) -> tuple[Requested, Callable[..., Any]]:
    """A call's request, or else that of `using`; and the function that is to be called.

    Args:
      call: a `jax.custom_vjp`; where "lax" is requested first, jax is to differentiate what it
        wraps.
    """
    if requested is None:
        requested = restrict_request(op, _default_request.value)
    names = (requested,) if isinstance(requested, str) else requested
    is_lax = isinstance(names, Sequence) and len(names) > 0 and names[0] == LAX
    return requested, call.__wrapped__ if is_lax else call


def restrict_request(op: str, requested: Requested) -> Requested:
    """Reduces a request to the names that an operator has implementations of.

    For an operator that is called as a part of another one, for which the request was made. None,
    the default choice, where it has none of them.
    """
    if requested is None:
        return None
    names = [requested] if isinstance(requested, str) else requested
    return tuple(name for name in names if name in _registry[op]) or None


def run_pass(op: str, pass_name: str, requested: Requested, spec: Hashable, *arrays: Any) -> Any:
    """Runs one pass of an operator by the implementation that was requested, or by the default.

    Args:
      requested: None chooses by platform; a name is strict; a sequence of names is tried in order.

    Raises:
      ValueError: an unknown name.
      NotImplementedError: nothing that was requested can do this call, or (when it is lowered)
        runs on this platform; the message says why.
    """
    chosen = _choose(op, pass_name, requested, spec, *arrays)
    for choices in _recorders.get():
        for platform, (implementation, reason) in chosen.items():
            details = filter(None, (reason, implementation.describe(pass_name, spec, *arrays)))
            choices.append(Choice(op, pass_name, platform, implementation.name, "; ".join(details)))
    passes = {platform: chosen[platform][0].passes[pass_name] for platform in chosen}
    general = passes.get(ANY)
    distinct = [(p, pass_) for p, pass_ in passes.items() if p == ANY or pass_ is not general]
    names = ", ".join(sorted({repr(implementation.name) for implementation, _ in chosen.values()}))
    message = f"{op}: implementation {names} runs on {', '.join(chosen)} only"
    with jax_compat.standard_promotion():
        return _compile(tuple(distinct), spec, message)(*arrays)


@functools.cache
def _compile(
    passes: tuple[tuple[str, Callable[..., Any]], ...], spec: Hashable, message: str
) -> Callable[..., Any]:
    """A function that runs the pass of the platform that it is lowered for.

    Called eagerly it is compiled as one unit, for the device that its arrays are on; inside a
    caller's jit it becomes part of the caller's computation.
    """
    branches: dict[str, Callable[..., Any]] = {
        platform: functools.partial(pass_, spec) for platform, pass_ in passes
    }
    default = branches.pop(ANY, None) or _refuse_to_lower(message, next(iter(branches.values())))

    def call(*arrays: Any) -> Any:
        return select_by_platform(*arrays, default=default, **branches)

    return jax.jit(call, inline=True)


def select_by_platform(
    *arrays: Any, default: Callable[..., Any], **branches: Callable[..., Any]
) -> Any:
    """`jax.lax.platform_dependent`, which traces one branch only where the platform is known."""
    target = compiler.target_platform()
    if target is None and branches:
        return lax.platform_dependent(*arrays, default=default, **branches)
    return branches.get(target or "", default)(*arrays)


def _choose(
    op: str, pass_name: str, requested: Requested, spec: Hashable, *arrays: Any
) -> dict[str, tuple[Implementation, str]]:
    """The implementation for each platform, and why it was chosen."""
    registered = _registry[op]
    rejections: dict[str, str] = {}
    chosen: dict[str, Implementation] = {}
    for name in _check_names(op, requested):
        implementation = registered[name]
        if requested is None and implementation.by_name_only:
            continue
        reason = implementation.unsupported(spec, *arrays)
        if reason is None and requested is None:
            reason = implementation.defers(pass_name, spec, *arrays)
        if reason is not None:
            rejections[name] = f"{name}: {reason}"
            continue
        for platform in implementation.platforms or (ANY,):
            chosen.setdefault(platform, implementation)
    if not chosen:
        reasons = "; ".join(rejections.values()) or "none was named"
        raise NotImplementedError(f"{op}: no implementation can do this call ({reasons})")
    if requested is not None:
        why = "requested"
    else:
        why = "the default" if len(registered) > 1 else "the only implementation"

    def concerns(name: str, platform: str) -> bool:
        """Whether an implementation that was rejected would have run there."""
        platforms = registered[name].platforms
        if platform == ANY:
            return not platforms or not chosen.keys() >= set(platforms)
        return not platforms or platform in platforms

    return {
        platform: (
            implementation,
            "; ".join([why, *(r for name, r in rejections.items() if concerns(name, platform))]),
        )
        for platform, implementation in chosen.items()
    }


def _check_names(op: str, requested: Requested) -> list[str]:
    """The names to try, in order."""
    registered = _registry[op]
    if requested is None:
        return list(reversed(registered))
    if not isinstance(requested, Sequence):
        raise ValueError(
            f"{op}: implementation must be None, a name or a sequence of names, got {requested!r}"
        )
    names = [requested] if isinstance(requested, str) else list(requested)
    for name in names:
        if name not in registered:
            raise ValueError(
                f"{op}: unknown implementation {name!r}; known: {', '.join(registered)}"
            )
    return names


def _refuse_to_lower(message: str, pass_: Callable[..., Any]) -> Callable[..., Any]:
    """A branch with the results' types of `pass_`, which raises when it is lowered."""

    def refuse(first: Any, *others: Any) -> Any:
        return pass_(lowering.require_platform((), first, message), *others)

    return refuse


@contextlib.contextmanager
def record_choices() -> Iterator[list[Choice]]:
    """Collects every choice that is made inside the `with` block."""
    choices: list[Choice] = []
    token = _recorders.set((*_recorders.get(), choices))
    try:
        yield choices
    finally:
        _recorders.reset(token)


def explain(op: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Choice]:
    """Tells which implementation a call would run on each platform, and why; computes nothing.

    Args:
      op: the operator, such as `kernels.depthwise_conv`, or any function that calls some.
      *args, **kwargs: as for the call. Arrays may be `jax.ShapeDtypeStruct`.

    Returns:
      A `Choice` for each pass and platform, in the order of the calls.
    """
    if hasattr(op, "lower"):  # jax refuses to trace a jit with compiler options inside another
        op = getattr(op, "__wrapped__", op)
    with record_choices() as choices:
        arrays, rebuild = _split_arrays((args, kwargs))

        def call(*arrays: Any) -> Any:
            args, kwargs = rebuild(arrays)
            return op(*args, **kwargs)

        with _trace_key(object()):
            jax.eval_shape(call, *arrays)
    return choices


def _split_arrays(tree: Any) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    """Separates a call's arrays from everything static in it (windows, names).

    Returns:
      The arrays, and a function that puts others in their place.
    """
    leaves, treedef = jax.tree.flatten(tree)
    indices = [
        i
        for i, leaf in enumerate(leaves)
        if hasattr(leaf, "shape") and not isinstance(leaf, np.generic)
    ]

    def rebuild(arrays: Sequence[Any]) -> Any:
        replaced = list(leaves)
        for i, array in zip(indices, arrays, strict=True):
            replaced[i] = array
        return jax.tree.unflatten(treedef, replaced)

    return [leaves[i] for i in indices], rebuild


def with_gradient(pass_: Callable[..., Any], reference: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a pass(spec, *arrays) the gradient of another one which computes the same."""
    call = jax.custom_vjp(pass_, nondiff_argnums=(0,))

    def forward(spec: Any, *arrays: Any) -> tuple[Any, Any]:
        return call(spec, *arrays), arrays

    def backward(spec: Any, arrays: Any, cotangents: Any) -> Any:
        with jax_compat.standard_promotion():
            return jax.vjp(functools.partial(reference, spec), *arrays)[1](cotangents)

    call.defvjp(forward, backward)
    return call


def with_gradients(passes: Passes, references: Passes) -> Passes:
    """Gives each pass the gradient of the reference's pass of that name: see `with_gradient`."""
    return {
        name: pass_ if pass_ is references[name] else with_gradient(pass_, references[name])
        for name, pass_ in passes.items()
    }
