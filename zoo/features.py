"""What a model computes on the way: the output of any of its modules."""

import difflib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax


def features(model: Any, x: jax.Array, paths: str | Sequence[str]) -> dict[str, jax.Array]:
    """The outputs of a model's modules, by their paths.

    Args:
      model: what `zoo.trained` returns, or a pair (model, variables).
      x: normalised images, [N, H, W, C].
      paths: module paths such as "stage3" or "stage4/block2/expand", as in the parameters.

    Returns:
      {path: output}, in the order of `paths`. What none of the outputs needs is not computed.

    Raises:
      ValueError: a path that the model does not have; the message lists the nearest.
    """
    module, variables = model if isinstance(model, tuple) else (model.model, model.variables)
    wanted = (paths,) if isinstance(paths, str) else tuple(paths)
    outputs = _compiled(module, wanted)(variables, x)
    return {path: outputs[path] for path in wanted}  # jit has sorted them


@functools.lru_cache(maxsize=64)
def _compiled(module: nn.Module, wanted: tuple[str, ...]) -> Callable[..., dict[str, jax.Array]]:
    @jax.jit
    def run(variables: Mapping[str, Any], x: jax.Array) -> dict[str, jax.Array]:
        outputs: dict[str, jax.Array] = {}

        def keep(
            call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
        ) -> Any:
            output = call(*args, **kwargs)
            if context.method_name == "__call__" and context.module.path:
                outputs["/".join(context.module.path)] = output
            return output

        with nn.intercept_methods(keep):
            module.apply(variables, x)
        for path in wanted:
            if path not in outputs:
                near = difflib.get_close_matches(path, outputs, n=3, cutoff=0.4)
                hint = f"; the nearest are {', '.join(near)}" if near else ""
                raise ValueError(f"{type(module).__name__} has no module {path!r}{hint}")
        return {path: outputs[path] for path in wanted}

    return run
