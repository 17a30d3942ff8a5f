"""The compiler options that make this jaxlib fast on this platform, and who may rely on them."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

Options = Mapping[str, bool | str]

ONEDNN = "xla_cpu_experimental_onednn_custom_call"
# oneDNN's convolutions came with jaxlib 0.11; before, the option is known but without effect.
ONEDNN_SINCE = (0, 11)

# The options that what is being traced will be compiled with: a part of the key of jax's caches.
_known = jax.make_user_context(default_value=())


def compiler_options(platform: str | None = None) -> dict[str, bool | str]:
    """What to give to `jax.jit(f, compiler_options=...)`, on a top-level jit only.

    Args:
      platform: "cpu", "gpu" or "tpu"; None is jax's default.

    Returns:
      For a CPU, options that leave matrix products and convolutions to Eigen, and from jaxlib 0.11
      on to oneDNN, and only reductions to YNNPACK, which is slow at the former and fast at
      the latter. Empty elsewhere. `jit` makes use of them.
    """
    if (platform or jax.default_backend()) != "cpu":
        return {}
    options: dict[str, bool | str] = {
        "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"
    }
    if jax.__version_info__ >= ONEDNN_SINCE:
        options[ONEDNN] = True
    return options


def jit(f: Callable[..., Any], **kwargs: Any) -> Any:
    """`jax.jit` with `compiler_options()`, which the operators in f then count on.

    For a whole program (a model's inference, a training step) and not for a part of one: jax
    refuses compiler options inside another jit. `jax.jit` without them works as well, and leaves
    a CPU's depthwise convolutions to our own formulation in place of oneDNN's.

    Args:
      f: as for `jax.jit`.
      **kwargs: as for `jax.jit`; `compiler_options` are added to ours, and win over them.
    """
    options = {**compiler_options(), **kwargs.pop("compiler_options", {})}

    @functools.wraps(f)
    def known(*args: Any, **kwargs: Any) -> Any:
        with compiled_with(options):
            return f(*args, **kwargs)

    return jax.jit(known, compiler_options=options, **kwargs)


@contextlib.contextmanager
def compiled_with(options: Options) -> Iterator[None]:
    """What is traced inside the `with` block may count on being compiled with these options."""
    with _known(tuple(sorted(options.items()))):
        yield


def onednn() -> bool:
    """Whether what is being traced will have oneDNN's convolutions on a CPU."""
    if jax.__version_info__ < ONEDNN_SINCE:
        return False
    known = dict(_known.value)
    return bool(known.get(ONEDNN, f"--{ONEDNN}=true" in os.environ.get("XLA_FLAGS", "").lower()))
