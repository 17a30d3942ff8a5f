"""A mark that keeps what it stands on from being lowered for a platform that it is not for."""

from collections.abc import Collection
from typing import Any

import jax.extend
from jax.interpreters import batching, mlir

# The identity.
_only_p = jax.extend.core.Primitive("only_on")
_only_p.def_abstract_eval(lambda x, *, platforms, message: x)
batching.defvectorized(_only_p)


def only_on(platforms: Collection[str], x: Any, message: str) -> Any:
    """x; to lower it for another platform than these raises NotImplementedError."""
    return _only_p.bind(x, platforms=frozenset(platforms), message=message)


def _lower(context: Any, x: Any, *, platforms: frozenset[str], message: str) -> list[Any]:
    others = [name for name in context.module_context.platforms if name not in platforms]
    if others:
        raise NotImplementedError(f"{message}, not on {', '.join(others)}")
    return [x]


mlir.register_lowering(_only_p, _lower)
