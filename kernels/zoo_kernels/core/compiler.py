"""The compiler options that make this jaxlib fast on this platform, and who may rely on them."""

import contextlib
import functools
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from jax.extend.backend import backends
from jax.extend.core import get_opaque_trace_state

from zoo_kernels.core.lowering import only_on

Options = Mapping[str, bool | str]

YNN = "xla_cpu_experimental_ynn_fusion_type"
# Its convolutions came with jaxlib 0.11; before, the option is known but without effect on them.
ONEDNN = "xla_cpu_experimental_onednn_custom_call"

# The options that what is being traced will be compiled with: a part of the key of jax's caches.
_known = jax.make_user_context(default_value=())

# What jax tells of its state where no transformation is being traced.
_TOP = get_opaque_trace_state()


def compiler_options(backend: str | None = None) -> dict[str, bool | str]:
    """What to give to `jax.jit(f, compiler_options=...)`, on a top-level jit only.

    Args:
      backend: "cpu", "gpu" or "tpu"; None is jax's default.

    Returns:
      For a CPU, options that leave matrix products and convolutions to Eigen, and from jaxlib 0.11
      on (tried on Linux, x86-64) to oneDNN, and nothing to YNNPACK, which is slow at them and
      draws them into its reductions: all of VGG-16 into that of its pools. Empty elsewhere. `jit`
      makes use of them.
    """
    if (backend or jax.default_backend()) != "cpu":
        return {}
    options: dict[str, bool | str] = {YNN: ""}
    if has_onednn():
        options[ONEDNN] = True
    return options


def jit(f: Callable[..., Any], **kwargs: Any) -> "Program":
    """`jax.jit` with `compiler_options()`, which the operators in f then count on.

    For a whole program: a model's inference, a training step. Inside somebody's jit, grad or vmap,
    where jax takes no options, it is `jax.jit` without them. A depthwise convolution on a CPU is
    then a sum of shifted products in place of oneDNN's.

    Where jax has no platform but the CPU, that is all the operators are traced for, which takes
    half the time; to lower such a program for another platform raises NotImplementedError, and
    `jax.jit` does it.

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
        def known(*args: Any, **kwargs: Any) -> Any:
            with compiled_with(self._options):
                return _marked(f(*args, **kwargs))

        functools.update_wrapper(self, known)

    @functools.cached_property
    def _options(self) -> Options:
        # Not before the first call: asking for the platform starts jax's backends.
        return {**compiler_options(), **(self._kwargs.get("compiler_options") or {})}

    @functools.cached_property
    def _whole(self) -> Any:
        return jax.jit(self.__wrapped__, **{**self._kwargs, "compiler_options": self._options})

    @functools.cached_property
    def _part(self) -> Any:
        return jax.jit(self._f, **{**self._kwargs, "compiler_options": None})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """f, compiled."""
        inside = get_opaque_trace_state() != _TOP
        return (self._part if inside else self._whole)(*args, **kwargs)

    def trace(self, *args: Any, **kwargs: Any) -> Any:
        """As of `jax.jit`'s result."""
        return self._whole.trace(*args, **kwargs)

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """As of `jax.jit`'s result."""
        return self._whole.lower(*args, **kwargs)


@contextlib.contextmanager
def compiled_with(options: Options) -> Iterator[None]:
    """What is traced inside the `with` block may count on being compiled with these options."""
    with _known(tuple(sorted(options.items()))):
        yield


def target() -> str | None:
    """The platform that what is being traced will be lowered for, if that is sure."""
    return "cpu" if YNN in dict(_known.value) and set(backends()) == {"cpu"} else None


def _marked(results: Any) -> Any:
    """A program's results, which can be lowered only for the platform that it was traced for."""
    known = target()
    leaves, tree = jax.tree.flatten(results)
    place = next((i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)), None)
    if known is None or place is None:
        return results
    told = f"kernels.jit, unlike jax.jit, traces for one platform: this runs on {known} only"
    leaves[place] = only_on([known], leaves[place], told)
    return jax.tree.unflatten(tree, leaves)


def optimised() -> bool:
    """Whether what is being traced will be compiled with `compiler_options()` for a CPU."""
    return YNN in dict(_known.value) or f"--{YNN}=" in os.environ.get("XLA_FLAGS", "")


def onednn() -> bool:
    """Whether what is being traced will have oneDNN's convolutions on a CPU."""
    flag = f"--{ONEDNN}=true" in os.environ.get("XLA_FLAGS", "").lower()
    return has_onednn() and str(dict(_known.value).get(ONEDNN, flag)).lower() == "true"


def has_onednn() -> bool:
    """Whether this jaxlib has oneDNN's convolutions: where they were tried, that is."""
    tried = (platform.system(), platform.machine()) == ("Linux", "x86_64")
    return tried and jax.__version_info__ >= (0, 11)
