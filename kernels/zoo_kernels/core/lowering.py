"""A check of the platform at the time of lowering."""

import functools
from collections.abc import Callable, Collection
from typing import Any

from zoo_kernels.core import jax_compat


def require_platform(platforms: Collection[str], x: Any, message: str) -> Any:
    """Identity that raises NotImplementedError when it is lowered for another platform."""
    return _primitive()(x, platforms=frozenset(platforms), message=message)


@functools.cache
def _primitive() -> Callable[..., Any]:
    return jax_compat.make_identity_primitive("require_platform", _lower)


def _lower(context: Any, x: Any, *, platforms: frozenset[str], message: str) -> list[Any]:
    others = [name for name in context.module_context.platforms if name not in platforms]
    if others:
        raise NotImplementedError(f"{message}, not on {', '.join(others)}")
    return [x]
