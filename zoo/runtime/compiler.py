"""The compiler options for whole programs, and where compiled programs are kept."""

import contextlib
import os
from collections.abc import Iterator

import jax
from jax.experimental.compilation_cache import compilation_cache

from zoo_kernels import compiler_options, jit
from zoo_kernels.core import compiler
from zoo_pretrained import cache

__all__ = ["cache_compilations", "compiler_options", "jit", "uncached"]

# Seconds: what compiles faster is not worth a file.
SLOW = 0.2


def cache_compilations() -> None:
    """Keeps compiled programs in the user's cache folder, so that the next process starts fast.

    To be called before anything is compiled. A place that jax was given already stays
    (`JAX_COMPILATION_CACHE_DIR`, or `jax.config`). Nothing is kept where no file can be written,
    and on a CPU from jaxlib 0.11 on, which cannot write the programs that `jit` makes there: they
    call oneDNN.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ or jax.config.values["jax_compilation_cache_dir"]:
        return
    if compiler.ONEDNN in compiler_options():
        return
    folder = cache.folder() / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # no place to keep anything: every start compiles
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", SLOW)


@contextlib.contextmanager
def uncached() -> Iterator[None]:
    """What is compiled inside the `with` block is neither read from a cache nor kept in one."""
    enabled = jax.config.values["jax_enable_compilation_cache"]
    try:
        _enable_cache(False)
        yield
    finally:
        _enable_cache(enabled)


def _enable_cache(enabled: bool) -> None:
    jax.config.update("jax_enable_compilation_cache", enabled)
    compilation_cache.reset_cache()  # else jax goes on as it did at its first compilation
