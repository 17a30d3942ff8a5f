"""Processes that are killed while they fetch, convert and save: the cache holds all or nothing."""

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
from tests.pretrained.server import serving
from tests.zoo.checkpoints import upstream
from tests.zoo.checkpoints.upstream import MODEL, WEIGHTS
from zoo_pretrained import catalogue
from zoo_pretrained import checkpoint as store

KILLS = 12

# One process for each line that comes; forked, for starting Python takes longer than to be killed.
NURSERY = """
import json, os, sys
import orbax.checkpoint
import zoo
from zoo_pretrained import catalogue
from zoo_pretrained import resolve
from zoo.checkpoints.convert import from_upstream
entries = json.loads(sys.argv[1])
catalogue.entries = lambda: entries
(model, several), = entries.items()

for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        print(os.getpid(), flush=True)
        resolve.load_checkpoint(model, *several, from_upstream)
        os._exit(0)
    os.waitpid(child, 0)
    print("over", flush=True)
"""


@pytest.mark.slow
def test_kills_at_any_moment(root, tmp_path, monkeypatch):
    draw, body = random.Random(5), upstream.body()
    place = tmp_path / "cache"
    monkeypatch.setenv("ZOO_CACHE", str(place))
    path = place / "checkpoints" / f"{MODEL}-{WEIGHTS}"
    (tmp_path / "file").write_bytes(body)
    zoo.convert(tmp_path / "file", MODEL, tmp_path / "want")
    want = store.restore(tmp_path / "want").variables
    with serving() as server:
        url = server.add("/squeeze.safetensors", body, rate=20_000_000)
        entries = {MODEL: {WEIGHTS: upstream.entry(url, body)}}
        nursery = subprocess.Popen(
            [sys.executable, "-c", NURSERY, json.dumps(entries)],
            env=dict(os.environ, PYTHONPATH=str(root), JAX_PLATFORMS="cpu"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        whole = 0
        for _ in range(KILLS):
            nursery.stdin.write("\n")
            child = int(nursery.stdout.readline())
            time.sleep(draw.uniform(0, 1.6))
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            assert nursery.stdout.readline() == "over\n"
            if path.exists():
                whole += 1
                jax.tree.map(np.testing.assert_array_equal, store.restore(path).variables, want)
                path.rename(tmp_path / f"whole{whole}")  # and begin anew
        _, said = nursery.communicate()
        assert "Traceback" not in said
        assert whole < KILLS
        monkeypatch.setattr(catalogue, "entries", lambda: entries)
        found = zoo.trained(MODEL)
    jax.tree.map(np.testing.assert_array_equal, found.variables, want)
    assert [p.name for p in path.parent.iterdir() if p.is_dir()] == [path.name]
    left = [p.name for p in (place / "downloads").iterdir() if p.suffix != ".lock"]
    assert left == []
