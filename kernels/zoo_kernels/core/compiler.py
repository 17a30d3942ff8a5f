"""Compiler options that make this jaxlib fast on a CPU, and `jit`, which compiles with them."""

import contextlib
import functools
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from zoo_kernels.core import jax_compat
from zoo_kernels.core.lowering import require_platform

Options = Mapping[str, bool | str]

YNN = "xla_cpu_experimental_ynn_fusion_type"
# Its convolutions came with jaxlib 0.11; before, the option is known but without effect on them.
ONEDNN = "xla_cpu_experimental_onednn_custom_call"

# The options that what is being traced will be compiled with, as sorted pairs.
_options_of_trace = jax_compat.TraceContext(default=())


def compiler_options(backend: str | None = None) -> dict[str, bool | str]:
    """What to give to `jax.jit(f, compiler_options=...)`, on a top-level jit only.

    Args:
      backend: "cpu", "gpu" or "tpu"; None is jax's default.

    Returns:
      For a CPU, options that have matrix products and convolutions computed by Eigen, and from
      jaxlib 0.11 on (tried on Linux, x86-64) by oneDNN. They switch YNNPACK off: it is slow at
      these, and its fusions begin at a reduction and take in the operations before it, which in
      VGG-16 are all layers before a max pool. Empty for other backends. `jit` uses them.
    """
    if (backend or jax.default_backend()) != "cpu":
        return {}
    options: dict[str, bool | str] = {YNN: ""}
    if has_onednn():
        options[ONEDNN] = True
    return options


def jit(f: Callable[..., Any], **kwargs: Any) -> "Program":
    """`jax.jit` with `compiler_options()`, which the operators in f then count on.

    For a whole program: a model's inference, a training step. Inside another jit, grad or vmap,
    where jax takes no options, it is `jax.jit` without them: on a CPU a depthwise convolution is
    then a sum of shifted products in place of oneDNN's.

    Where jax has no platform but the CPU, the operators are traced for a CPU only, which takes half
    the time; to lower such a program for another platform raises NotImplementedError. `jax.jit`
    lowers for all platforms.

    jaxlib 0.12 cannot write programs that call oneDNN into jax's persistent compilation cache, and
    warns where one is set; they compile fast.

    Args:
      f: as for `jax.jit`.
      **kwargs: as for `jax.jit`; `compiler_options` are added to ours, and win over them.
    """
    return Program(f, kwargs)


class Program:
    """What `jit` returns: called, traced and lowered as what `jax.jit` returns."""

    __wrapped__: Callable[..., Any]

    def __init__(self, f: Callable[..., Any], kwargs: Mapping[str, Any]) -> None:
        self._f, self._kwargs = f, dict(kwargs)

        @functools.wraps(f)
        def with_options(*args: Any, **kwargs: Any) -> Any:
            with compiled_with(self._options):
                return _require_target(f(*args, **kwargs))

        functools.update_wrapper(self, with_options)

    @functools.cached_property
    def _options(self) -> Options:
        # Not before the first call: asking for the platform starts jax's backends.
        return {**compiler_options(), **(self._kwargs.get("compiler_options") or {})}

    @functools.cached_property
    def _top_level(self) -> Any:
        return jax.jit(self.__wrapped__, **{**self._kwargs, "compiler_options": self._options})

    @functools.cached_property
    def _nested(self) -> Any:
        return jax.jit(self._f, **{**self._kwargs, "compiler_options": None})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls f, compiled."""
        nested = jax_compat.inside_trace((args, kwargs))
        return (self._nested if nested else self._top_level)(*args, **kwargs)

    def trace(self, *args: Any, **kwargs: Any) -> Any:
        """As of `jax.jit`'s result."""
        return self._top_level.trace(*args, **kwargs)

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """As of `jax.jit`'s result."""
        return self._top_level.lower(*args, **kwargs)


@contextlib.contextmanager
def compiled_with(options: Options) -> Iterator[None]:
    """Lets what is traced inside the `with` block count on being compiled with these options."""
    with _options_of_trace(tuple(sorted(options.items()))):
        yield


def target_platform() -> str | None:
    """The one platform that what is being traced can be lowered for; None if there are several."""
    only_cpu = uses_options_of_jit() and jax_compat.backend_platforms() == {"cpu"}
    return "cpu" if only_cpu else None


def _require_target(results: Any) -> Any:
    """Marks a program's results, so that it is lowered for no platform but its target."""
    target = target_platform()
    leaves, tree = jax.tree.flatten(results)
    first = next((i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)), None)
    if target is None or first is None:
        return results
    message = f"kernels.jit, unlike jax.jit, traces for one platform: this runs on {target} only"
    leaves[first] = require_platform([target], leaves[first], message)
    return jax.tree.unflatten(tree, leaves)


def uses_options_of_jit() -> bool:
    """Whether what is being traced is a program of `jit`, to be compiled for a CPU."""
    return YNN in dict(_options_of_trace.value)


def uses_options() -> bool:
    """Whether what is being traced will be compiled with `compiler_options()` for a CPU."""
    return uses_options_of_jit() or f"--{YNN}=" in os.environ.get("XLA_FLAGS", "")


def uses_onednn() -> bool:
    """Whether what is being traced will have oneDNN's convolutions on a CPU."""
    by_flag = f"--{ONEDNN}=true" in os.environ.get("XLA_FLAGS", "").lower()
    option = dict(_options_of_trace.value).get(ONEDNN, by_flag)
    return has_onednn() and str(option).lower() == "true"


def has_onednn() -> bool:
    """Whether this jaxlib has oneDNN's convolutions, on a platform where they were tried."""
    tried = (platform.system(), platform.machine()) == ("Linux", "x86_64")
    return tried and jax_compat.has_onednn_convolutions()
