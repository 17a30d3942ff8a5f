"""Processes that are killed while they fetch, convert and save leave a checkpoint or nothing."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

import jax
import numpy as np
import pytest

import zoo
from tests.pretrained.server import run_server
from tests.zoo.checkpoints import upstream
from tests.zoo.checkpoints.upstream import MODEL, WEIGHTS
from zoo_pretrained import catalogue, restore

KILLS = 12

# Forks a process for each line of standard input, as starting Python takes too long.
FORK_SERVER = """
import json, os, sys
import orbax.checkpoint
import zoo
from zoo_pretrained import catalogue, resolve
from zoo.checkpoints.convert import convert_published
entries = json.loads(sys.argv[1])
catalogue.entries = lambda: entries
(model, names), = entries.items()

for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        print(os.getpid(), flush=True)
        resolve.load_checkpoint(model, *names, convert_published, lambda *_: None)
        os._exit(0)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


@pytest.mark.slow
def test_a_process_killed_at_any_moment(tmp_path, monkeypatch):
    draw, body = random.Random(5), upstream.body()
    cache_folder = tmp_path / "cache"
    monkeypatch.setenv("ZOO_CACHE", str(cache_folder))
    path = cache_folder / "checkpoints" / f"{MODEL}-{WEIGHTS}"
    (tmp_path / "file").write_bytes(body)
    zoo.convert(tmp_path / "file", MODEL, tmp_path / "expected")
    expected = restore(tmp_path / "expected").variables
    with run_server() as server:
        url = server.add("/squeeze.safetensors", body, rate=20_000_000)
        entries = {MODEL: {WEIGHTS: upstream.entry(url, body)}}
        fork_server = subprocess.Popen(
            [sys.executable, "-c", FORK_SERVER, json.dumps(entries)],
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), JAX_PLATFORMS="cpu"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        complete = 0
        for _ in range(KILLS):
            fork_server.stdin.write("\n")
            child = int(fork_server.stdout.readline())
            time.sleep(draw.uniform(0, 1.6))
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            assert fork_server.stdout.readline() == "ended\n"
            if path.exists():
                complete += 1
                jax.tree.map(np.testing.assert_array_equal, restore(path).variables, expected)
                path.rename(tmp_path / f"complete{complete}")  # so that the next one starts again
        _, stderr = fork_server.communicate()
        assert "Traceback" not in stderr
        assert complete < KILLS
        monkeypatch.setattr(catalogue, "entries", lambda: entries)
        found = zoo.trained(MODEL)
    jax.tree.map(np.testing.assert_array_equal, found.variables, expected)
    assert [p.name for p in path.parent.iterdir() if p.is_dir()] == [path.name]
    leftovers = [p.name for p in (cache_folder / "downloads").iterdir() if p.suffix != ".lock"]
    assert leftovers == []
