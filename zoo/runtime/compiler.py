"""Compiler options for whole programs, and jax's cache of compiled programs."""

import contextlib
import os
from collections.abc import Iterator

import jax

from zoo_kernels import compiler_options, jit
from zoo_kernels.core import jax_compat
from zoo_kernels.core.compiler import ONEDNN
from zoo_pretrained import cache

__all__ = ["cache_compilations", "compiler_options", "jit", "uncached"]

# Seconds: a program that compiles faster is not worth a file.
MIN_COMPILE_SECONDS = 0.2


def cache_compilations() -> None:
    """Keeps compiled programs in the user's cache folder, so that the next process starts fast.

    Call it before anything is compiled. A folder that jax was given already stays
    (`JAX_COMPILATION_CACHE_DIR`, or `jax.config`). Nothing is kept where no file can be written,
    nor on a CPU from jaxlib 0.11 on: the programs that `jit` makes there call oneDNN, and jaxlib
    cannot write those.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ or jax_compat.config_value(
        "jax_compilation_cache_dir"
    ):
        return
    if ONEDNN in compiler_options():
        return
    folder = cache.folder() / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # nothing can be kept: every process compiles
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)


@contextlib.contextmanager
def uncached() -> Iterator[None]:
    """Compiles without the cache inside the `with` block: nothing is read from it or written."""
    enabled = jax_compat.config_value("jax_enable_compilation_cache")
    try:
        _enable_cache(False)
        yield
    finally:
        _enable_cache(enabled)


def _enable_cache(enabled: bool) -> None:
    jax.config.update("jax_enable_compilation_cache", enabled)
    jax_compat.reset_compilation_cache()  # jax reads the setting at its first compilation only
