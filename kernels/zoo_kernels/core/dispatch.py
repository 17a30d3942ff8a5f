"""Which implementation of an operator runs: a registry, a choice, and an account of the choice.

An implementation is one module that gives an operator's passes ("forward", "input_grad"…) as pure
functions `pass_(static, *arrays)`. `static` is the operator's hashable description of the call.
Adding one (Triton kernels, a compiled CPU extension) takes that module and one `register` line.

The choice follows the platform that a computation is lowered for, not the default device: where
some platform has an implementation of its own, all of them are traced behind
`jax.lax.platform_dependent`, unless the platform is known already (`compiler.target`).
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

from zoo_kernels.core import compiler, lowering

Requested = str | Sequence[str] | None


@dataclasses.dataclass(frozen=True)
class Implementation:
    """One way to compute an operator.

    Args:
      name: what a caller writes as `implementation=`.
      passes: the operator's passes by name, each a pure function `pass_(static, *arrays)`.
      platforms: the platforms ("cpu", "cuda", …) that it runs on; empty for all.
      refuses: called as `refuses(static, *arrays)`; the reason why this call cannot be done, or
        None where it can.
      describe: called as `describe(step, static, *arrays)`; what `explain` adds on how this
        implementation does the pass.
      yields: called as `yields(step, static, *arrays)`; the reason why another implementation is
        the better choice for this pass, where the caller leaves the choice open, or None.
    """

    name: str
    passes: Mapping[str, Callable[..., Any]]
    platforms: tuple[str, ...] = ()
    refuses: Callable[..., str | None] = lambda spec, *arrays: None
    describe: Callable[..., str | None] = lambda pass_name, spec, *arrays: None
    yields: Callable[..., str | None] = lambda pass_name, spec, *arrays: None


class Choice(NamedTuple):
    """What runs for one pass of one operator on one platform ("any": those not named), and why."""

    op: str
    pass_name: str
    platform: str
    implementation: str
    reason: str


_registry: dict[str, dict[str, Implementation]] = {}
_traces: contextvars.ContextVar[tuple[list[Choice], ...]] = contextvars.ContextVar(
    "traces", default=()
)

# Part of the key of jax's caches of traces: a new value makes jax trace anew, and so choose anew.
_fresh = jax.make_user_context(default_value=None)


def register(implementations: Mapping[str, Implementation]) -> None:
    """Adds implementations by operator; the newest one for a platform is preferred there."""
    for op, implementation in implementations.items():
        names = _registry.setdefault(op, {})
        if implementation.name in names:
            raise ValueError(f"{op}: there is an implementation {implementation.name!r} already")
        names[implementation.name] = implementation


def run(op: str, pass_name: str, requested: Requested, spec: Hashable, *arrays: Any) -> Any:
    """Runs one pass of an operator by the implementation that was requested, or by the best one.

    Args:
      requested: None chooses by platform; a name is strict; a sequence of names is tried in order.

    Raises:
      ValueError: an unknown name.
      NotImplementedError: nothing that was requested can do this call, or (when it is lowered)
        runs on this platform; the message says why.
    """
    branches, reason = _choose(op, pass_name, requested, spec, *arrays)
    for trace in _traces.get():
        for platform, chosen in branches.items():
            details = filter(None, (reason, chosen.describe(pass_name, spec, *arrays)))
            trace.append(Choice(op, pass_name, platform, chosen.name, "; ".join(details)))
    passes = {platform: chosen.passes[pass_name] for platform, chosen in branches.items()}
    names = ", ".join(sorted({repr(chosen.name) for chosen in branches.values()}))
    lacking = f"{op}: implementation {names} runs on {', '.join(branches)} only"
    return _compiled(tuple(passes.items()), spec, lacking)(*arrays)


@functools.cache
def _compiled(
    passes: tuple[tuple[str, Callable[..., Any]], ...], spec: Hashable, lacking: str
) -> Callable[..., Any]:
    """The pass of the platform that it is lowered for.

    Called eagerly it is compiled as one unit, for the device that its arrays are on; inside a
    caller's jit it melts into the caller's computation.
    """
    bound = {platform: functools.partial(pass_, spec) for platform, pass_ in passes}

    def call(*arrays: Any) -> Any:
        own = dict(bound)
        default = own.pop("any", None) or _refusing(lacking, next(iter(bound.values())))
        return by_platform(*arrays, default=default, **own)

    return jax.jit(call, inline=True)


def by_platform(*arrays: Any, default: Callable[..., Any], **own: Callable[..., Any]) -> Any:
    """`jax.lax.platform_dependent`, which traces one branch only where the platform is known."""
    target = compiler.target()
    if target is None and own:
        return lax.platform_dependent(*arrays, default=default, **own)
    return own.get(target or "", default)(*arrays)


def _choose(
    op: str, pass_name: str, requested: Requested, spec: Hashable, *arrays: Any
) -> tuple[dict[str, Implementation], str]:
    """The implementation for each platform ("any": for those not named), and why."""
    known = _registry[op]
    if requested is None:
        names = list(reversed(known))
    elif isinstance(requested, str):
        names = [requested]
    elif isinstance(requested, Sequence):
        names = list(requested)
    else:
        raise ValueError(
            f"{op}: implementation must be None, a name or a sequence of names, got {requested!r}"
        )
    for name in names:
        if name not in known:
            raise ValueError(f"{op}: unknown implementation {name!r}; known: {', '.join(known)}")
    refusals = {name: known[name].refuses(spec, *arrays) for name in names}
    if requested is None:
        for name in names:
            refusals[name] = refusals[name] or known[name].yields(pass_name, spec, *arrays)
    able = [known[name] for name in names if refusals[name] is None]
    told = [f"{name}: {why}" for name, why in refusals.items() if why is not None]
    if not able:
        raise NotImplementedError(
            f"{op}: no implementation can do this call ({'; '.join(told) or 'none was named'})"
        )
    branches: dict[str, Implementation] = {}
    for implementation in able:
        for platform in implementation.platforms or ("any",):
            branches.setdefault(platform, implementation)
    if requested is not None:
        reason = "requested"
    else:
        reason = "the default" if len(known) > 1 else "the only implementation"
    return branches, "; ".join([reason, *told])


def _refusing(message: str, pass_: Callable[..., Any]) -> Callable[..., Any]:
    """The branch for all other platforms: of the same type as `pass_`, and an error to lower."""

    def refuse(first: Any, *others: Any) -> Any:
        return pass_(lowering.only_on((), first, message), *others)

    return refuse


@contextlib.contextmanager
def tracing() -> Iterator[list[Choice]]:
    """Collects every choice that is made inside the `with` block."""
    choices: list[Choice] = []
    token = _traces.set((*_traces.get(), choices))
    try:
        yield choices
    finally:
        _traces.reset(token)


def explain(op: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Choice]:
    """Which implementation a call would run on each platform, and why; nothing is computed.

    Args:
      op: the operator, such as `kernels.depthwise_conv`, or any function that calls some.
      *args, **kwargs: as for the call. Arrays may be `jax.ShapeDtypeStruct`.

    Returns:
      A `Choice` for each pass and platform, in the order of the calls.
    """
    if hasattr(op, "lower"):  # jax refuses to trace a jit with compiler options inside another
        op = getattr(op, "__wrapped__", op)
    with tracing() as choices:
        arrays, rebuild = _split((args, kwargs))

        def call(*arrays: Any) -> Any:
            args, kwargs = rebuild(arrays)
            return op(*args, **kwargs)

        with _fresh(object()):
            jax.eval_shape(call, *arrays)
    return choices


def _split(tree: Any) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    """Parts a call's arrays from everything static in it (windows, names)."""
    leaves, treedef = jax.tree.flatten(tree)
    places = [
        i
        for i, leaf in enumerate(leaves)
        if hasattr(leaf, "shape") and not isinstance(leaf, np.generic)
    ]

    def rebuild(arrays: Sequence[Any]) -> Any:
        full = list(leaves)
        for place, array in zip(places, arrays, strict=True):
            full[place] = array
        return jax.tree.unflatten(treedef, full)

    return [leaves[i] for i in places], rebuild


def with_gradient(pass_: Callable[..., Any], reference: Callable[..., Any]) -> Callable[..., Any]:
    """A pass(static, *arrays) whose own gradient is that of another one which computes the same."""
    call = jax.custom_vjp(pass_, nondiff_argnums=(0,))

    def run(spec: Any, *arrays: Any) -> tuple[Any, Any]:
        return call(spec, *arrays), arrays

    def gradients(spec: Any, arrays: Any, cotangents: Any) -> Any:
        return jax.vjp(functools.partial(reference, spec), *arrays)[1](cotangents)

    call.defvjp(run, gradients)
    return call
