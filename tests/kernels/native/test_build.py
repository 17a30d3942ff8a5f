"""Compiling the C++: where it goes, what it depends on, and what is told where it fails."""

import functools
import os
import shutil
import subprocess
import sys

import pytest

import zoo_kernels as kernels
from zoo_kernels import native
from zoo_kernels.native import build


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Nothing is compiled or loaded yet, and the cache is an empty folder."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(build.SETTING, raising=False)
    monkeypatch.delenv("CXX", raising=False)
    for name in ("_load", "_is_compiled"):
        monkeypatch.setattr(build, name, functools.cache(getattr(build, name).__wrapped__))
    return tmp_path


@pytest.fixture
def compiler(monkeypatch, fresh):
    """(body) → sets CXX to a script that tells a version, and else does that."""

    def make(body):
        path = fresh / "compiler"
        path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo 1.0 && exit\n{body}\n')
        path.chmod(0o755)
        monkeypatch.setenv("CXX", str(path))
        return path

    return make


def files(folder):
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


class TestReasons:
    def test_no_compiler(self, fresh, monkeypatch):
        monkeypatch.setenv("PATH", str(fresh))
        reason = native.unavailable()
        assert reason == "needs a C++ compiler, such as g++, and none is installed"
        with pytest.raises(build.BuildError, match="needs a C"):
            build.library()
        with pytest.raises(NotImplementedError, match=r"native: needs a C\+\+ compiler"):
            kernels.max_pool(kernels_input(), 2, implementation="native")
        monkeypatch.setenv("PATH", os.defpath)
        assert native.unavailable() == reason  # found out once

    def test_a_compiler_that_is_not_there(self, fresh, monkeypatch):
        monkeypatch.setenv("CXX", "no-such-compiler")
        assert "no-such-compiler" in native.unavailable()

    @pytest.mark.skipif(shutil.which("false") is None, reason="there is no program `false`")
    def test_a_program_that_is_no_compiler(self, fresh, monkeypatch):
        monkeypatch.setenv("CXX", "false")
        reason = native.unavailable()
        assert "by false" in reason
        assert "\n" not in reason

    def test_a_compiler_that_fails(self, compiler):
        path = compiler("echo 'error: unknown flag' >&2; echo second >&2; exit 1")
        reason = native.unavailable()
        assert str(path) in reason
        assert reason.endswith("error: unknown flag")
        assert files(build._cache_folder()) == []  # nothing half made is left

    def test_a_compiler_that_makes_nothing(self, compiler):
        compiler("exit 0")
        assert native.unavailable()

    def test_a_compiler_that_takes_too_long(self, compiler, monkeypatch):
        compiler("sleep 5")
        monkeypatch.setattr(build, "TIME_LIMIT", 0.2)
        assert "seconds" in native.unavailable()

    def test_what_is_no_library(self, compiler):
        compiler('for last; do :; done; echo damaged > "$last"')
        reason = native.unavailable()
        assert str(build._cache_folder()) in reason
        assert "\n" not in reason

    def test_a_cache_that_cannot_be_written(self, fresh, monkeypatch):
        if not any(map(shutil.which, ("g++", "clang++", "c++"))):
            pytest.skip("no C++ compiler is installed")
        (fresh / "file").touch()
        monkeypatch.setenv("ZOO_CACHE", str(fresh / "file" / "cache"))
        assert str(fresh / "file") in native.unavailable()

    def test_a_home_that_is_not(self, fresh, monkeypatch):
        monkeypatch.setenv("ZOO_CACHE", "~no-such-user/cache")
        assert native.unavailable()

    def test_turned_off(self, fresh, monkeypatch):
        monkeypatch.setenv("ZOO_NATIVE", "0")
        assert native.unavailable() == "is turned off by ZOO_NATIVE=0"
        assert native.unavailable(compiles=False)

    @pytest.mark.parametrize(("system", "machine"), [("Darwin", "x86_64"), ("Linux", "aarch64")])
    def test_other_machines(self, fresh, monkeypatch, system, machine):
        monkeypatch.setattr("platform.system", lambda: system)
        monkeypatch.setattr("platform.machine", lambda: machine)
        assert native.unavailable() == "is for Linux on x86-64"


def kernels_input():
    import jax.numpy as jnp

    return jnp.ones((1, 4, 4, 3))


class TestFolder:
    def test_it_is_that_of_compiled_programs(self, fresh, monkeypatch):
        from zoo_pretrained import cache

        assert build._cache_folder() == cache.folder() / "compiled"
        monkeypatch.setenv("ZOO_CACHE", "~/elsewhere")
        assert build._cache_folder() == cache.folder() / "compiled"
        monkeypatch.delenv("ZOO_CACHE")
        assert build._cache_folder() == cache.folder() / "compiled"
        monkeypatch.setenv("XDG_CACHE_HOME", str(fresh / "caches"))
        assert build._cache_folder() == cache.folder() / "compiled"
        assert fresh in build._cache_folder().parents

    def test_it_is_listed_and_removed_with_them(self, fresh):
        from zoo_pretrained import cache

        folder = cache.folder() / "compiled"
        folder.mkdir(parents=True)
        for name in ("native-0123456789abcdef.so", "jit_f-0a-cache", "jit_f-0a-atime"):
            (folder / name).write_text("12")
        (folder / ".native-abc_1234").mkdir()  # of a process that was killed
        (item,) = cache.items()
        assert (item.name, item.kind, item.size) == ("compiled", "compiled", 6)
        (folder / "photo.so").touch()
        assert cache.items() == []  # somebody else's
        (folder / "photo.so").unlink()
        assert cache.prune() == [item]
        assert not folder.exists()


class TestCompiling:
    @pytest.fixture(autouse=True)
    def _needs_a_compiler(self, native_library):
        pass

    def test_it_is_compiled_once(self, native_library, fresh, monkeypatch):
        """By name of source, flags, compiler and processor."""
        folder = native_library.parent
        assert build.compile_library(folder) == native_library
        monkeypatch.setattr(build, "_run", lambda command: "another version")
        assert build._library_path(folder, "g++", build.FLAGS) != native_library
        assert build._library_path(folder, "g++", ("-O2",)) != build._library_path(
            folder, "g++", build.FLAGS
        )
        one = build._library_path(folder, "g++", build.FLAGS)
        monkeypatch.setattr(build, "_processor", lambda: "another processor")
        assert build._library_path(folder, "g++", build.FLAGS) != one

    def test_without_compiling_it_is_used_if_it_is_there(self, native_library, fresh, monkeypatch):
        assert "not compiled yet" in native.unavailable(compiles=False)
        assert files(build._cache_folder()) == []
        folder = native_library.parent
        monkeypatch.setattr(build, "_cache_folder", lambda: folder)
        build._is_compiled.cache_clear()
        assert native.unavailable(compiles=False) is None

    def test_two_processes_and_two_threads_of_each_at_once(self, native_library, compiler, root):
        """Each compiles, or finds what another has compiled; all can run it."""
        compiler(f'sleep 0.5; for last; do :; done; cp {native_library} "$last"')
        script = (
            "import concurrent.futures, jax.numpy as jnp, zoo_kernels as kernels\n"
            "from zoo_kernels import native\n"
            "with concurrent.futures.ThreadPoolExecutor(2) as pool:\n"
            "    assert list(pool.map(lambda _: native.unavailable(), range(2))) == [None] * 2\n"
            "x = jnp.arange(32.0).reshape(1, 4, 4, 2)\n"
            "y = kernels.max_pool(x, 2, implementation='native')\n"
            "assert y.tolist() == kernels.max_pool(x, 2).tolist()\n"
        )
        python_path = os.pathsep.join(str(root / f) for f in (".", "kernels", "pretrained"))
        processes = [
            subprocess.Popen(
                [sys.executable, "-W", "error", "-c", script],
                env={**os.environ, "PYTHONPATH": python_path},
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        assert [process.communicate(timeout=120)[1] for process in processes] == ["", ""]
        (name,) = files(build._cache_folder())
        assert name.startswith("native-")
