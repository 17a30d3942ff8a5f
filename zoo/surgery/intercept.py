"""Reads and replaces the outputs of a model's modules, without a hook in the model."""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import flax.linen as nn


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a module inside `intercept`.

    Args:
      module: the bound module; `module.variables` are its own.
      path: where it is, such as "stage2/block3/conv1"; "" for the outermost module.
      args, kwargs: what it was called with.
      run: (**changes) → the module's output, as if nobody intercepted the call; `changes` are
        arguments by name that it gets in place of those that it was called with.
    """

    module: nn.Module
    path: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    run: Callable[..., Any]
    _handler: "Handler" = dataclasses.field(repr=False)

    def stop(self) -> NoReturn:
        """Leaves the whole `with` block: no module behind this one is called."""
        raise _Stopped(self._handler)


Handler = Callable[[Call], Any]


@contextlib.contextmanager
def intercept(handler: Handler, inside: tuple[str, ...] = ()) -> Iterator[None]:
    """Gives the handler every call of a module's `__call__` in the `with` block.

    def double(call: Call) -> Any:
        return 2 * call.run() if call.path == "stage1" else call.run()

    with intercept(double):
        logits = model.apply(variables, x)

    Args:
      handler: (call) → what the module's caller gets as output: `call.run()` to read, anything else
        to replace it. Modules in it are called during `call.run()`.
      inside: the path of a module; only its own call and those of modules in it are given, with
        paths that count from it.

    It acts on what is traced in the block, inside `jax.jit` too. A function that jax has traced
    before is not traced again: give `jax.jit` and `jax.eval_shape` a new one. XLA drops what no
    output depends on. The inner values of recomputed blocks (`remat=True`) may be replaced, but not
    kept.
    """

    def interceptor(
        run: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        path = context.module.path
        if context.method_name != "__call__" or path[: len(inside)] != inside:
            return run(*args, **kwargs)
        return handler(
            Call(
                context.module,
                "/".join(path[len(inside) :]),
                args,
                kwargs,
                functools.partial(_run, run, context.module, args, kwargs),
                handler,
            )
        )

    try:
        with nn.intercept_methods(interceptor):
            yield
    except _Stopped as stopped:
        if stopped.handler is not handler:  # another one's, further out
            raise


def _run(
    run: Callable[..., Any],
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    **changes: Any,
) -> Any:
    if not changes:
        return run(*args, **kwargs)
    call: Any = type(module).__call__
    bound = inspect.signature(call).bind(module, *args, **kwargs)
    bound.arguments.update(changes)
    return run(*bound.args[1:], **bound.kwargs)


class _Stopped(Exception):  # noqa: N818 - no error, but the way out of a model
    def __init__(self, handler: Handler) -> None:
        self.handler = handler
