"""Fixtures: processes that train, and compiled programs that trainings share."""

import json
import os
import subprocess
import sys

import jax
import pytest

from zoo_kernels.core import jax_compat
from zoo_kernels.core.compiler import has_onednn

pytest.register_assert_rewrite("tests.zoo.training.tiny")

SCRIPT = [sys.executable, "-m", "tests.zoo.training.train_script"]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """A folder of compiled programs, for several processes."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def cached(compiled):
    """Keeps compiled programs in this process, too, where this jaxlib can write them."""
    if has_onednn():
        yield
        return
    settings = {
        "jax_compilation_cache_dir": str(compiled),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: jax_compat.config_value(name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    jax_compat.reset_compilation_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    jax_compat.reset_compilation_cache()


@pytest.fixture(scope="session")
def environment(compiled, tmp_path_factory):
    """Of processes: they share compiled programs, and have a folder for temporary files."""
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return {
        **os.environ,
        **({} if has_onednn() else cache),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "JAX_PLATFORMS": "cpu",
        "TMPDIR": str(tmp_path_factory.mktemp("temporary")),
    }


class Server:
    """Forks trainings, one at a time; see `train_script`."""

    def __init__(self, process):
        self._process = process

    def start(self, folder, **arguments):
        """Starts a training; returns the process's number, which is its session's too."""
        call = {"folder": str(folder), **arguments}
        self._process.stdin.write(json.dumps(call) + "\n")
        return int(self._process.stdout.readline())

    def end(self):
        """What the training printed: how it ended, or nothing if it was killed."""
        return list(iter(lambda: self._process.stdout.readline().rstrip("\n"), "ended"))


@pytest.fixture(scope="session")
def server(environment):
    with subprocess.Popen(
        [*SCRIPT, "serve"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield Server(process)
        process.stdin.close()
        assert process.wait() == 0
