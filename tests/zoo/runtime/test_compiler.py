"""The cache of compiled programs: what it holds, and in which folder."""

import jax
import pytest

from zoo.runtime import compiler
from zoo_pretrained import cache


@pytest.fixture(autouse=True)
def _restore_jax_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: jax.config.values[name] for name in names}
    # A test of the command line in the same process may have chosen a folder.
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compiler._enable_cache(jax.config.values["jax_enable_compilation_cache"])


def test_programs_are_cached_except_inside_uncached(monkeypatch):
    monkeypatch.setattr(compiler, "compiler_options", dict)
    compiler.cache_compilations()
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compiler._enable_cache(True)

    def cached_programs():
        return set((cache.folder() / "compiled").glob("*-cache"))

    with compiler.uncached():
        jax.jit(lambda x: x * 3 + 1).lower(1.0).compile()
    assert not cached_programs()
    jax.jit(lambda x: x * 5 + 1).lower(1.0).compile()
    assert cached_programs()


def test_a_folder_that_jax_was_given_stays(monkeypatch, tmp_path):
    monkeypatch.setattr(compiler, "compiler_options", dict)
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "chosen"))
    compiler.cache_compilations()
    assert jax.config.values["jax_compilation_cache_dir"] == str(tmp_path / "chosen")


def test_programs_that_call_onednn_are_not_cached(monkeypatch):
    monkeypatch.setattr(compiler, "compiler_options", lambda: {compiler.ONEDNN: True})
    before = jax.config.values["jax_compilation_cache_dir"]
    compiler.cache_compilations()
    assert jax.config.values["jax_compilation_cache_dir"] == before
