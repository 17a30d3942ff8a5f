"""Processes that are killed while they download, or download the same: the file is whole or not."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from zoo_pretrained.fetch import Digest, fetch

BODY = random.Random(3).randbytes(4_000_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
KILLS = 40

CHILD = """
import sys
from pathlib import Path
from zoo_pretrained.fetch import Digest, fetch
url, target, digest = sys.argv[1], Path(sys.argv[2]), Digest("sha256", sys.argv[3])
print(fetch(url, target, digest=digest), flush=True)
"""

# One process per line that comes; forked, for starting Python takes longer than to be killed.
NURSERY = """
import os, sys
from pathlib import Path
import filelock, urllib3
from zoo_pretrained.fetch import Digest, fetch
url, target, digest = sys.argv[1], Path(sys.argv[2]), Digest("sha256", sys.argv[3])

def going(done, total, told=[]):
    if not told:
        told.append(print("going", flush=True))

for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        print(os.getpid(), flush=True)
        fetch(url, target, digest=digest, progress=going)
        os._exit(0)
    os.waitpid(child, 0)
    print("over", flush=True)
"""


HUB_CHILD = """
import sys
from pathlib import Path
from zoo_pretrained.hub import fetch_hub

def going(done, total, told=[]):
    if not told and done > 1_000_000:
        told.append(print("going", flush=True))

print(fetch_hub(sys.argv[1], "model.bin", Path(sys.argv[2]), progress=going), flush=True)
"""


@pytest.fixture(autouse=True)
def patient(plain, monkeypatch):
    monkeypatch.setenv("ZOO_TIMEOUT", "20")


def start(root, code, url, target, **settings):
    return subprocess.Popen(
        [sys.executable, "-c", code, url, str(target), SHA256],
        env=dict(os.environ, PYTHONPATH=str(root), **settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def test_kills_at_any_moment(server, root, tmp_path):
    """Each time there is no file, or the whole one; and what had come is not sent again."""
    draw = random.Random(4)
    url = server.add("/a", BODY, rate=6_000_000)
    target, part = tmp_path / "model.bin", tmp_path / "model.bin.part"
    kept = there = 0
    nursery = start(root, NURSERY, url, target)
    for kill in range(KILLS):
        asked = len(server.requests)
        nursery.stdin.write("\n")
        child = int(nursery.stdout.readline())
        line = nursery.stdout.readline() if kill % 3 else ""  # perhaps before it asks for anything
        time.sleep(draw.uniform(0, 0.2))
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        while line != "over\n":
            line = nursery.stdout.readline()
            assert line
        starts = [request.start for request in server.requests[asked:]]
        assert set(starts) <= {there or None}
        kept += starts == [there]
        if target.exists():
            assert hashlib.sha256(target.read_bytes()).hexdigest() == SHA256
            target.unlink()
        there = part.stat().st_size if part.exists() else 0
        assert BODY.startswith(part.read_bytes() if there else b"")
    _, said = nursery.communicate()
    assert nursery.returncode == 0, said
    assert "Traceback" not in said
    assert fetch(url, target, digest=Digest("sha256", SHA256)) == SHA256
    assert target.read_bytes() == BODY
    assert sorted(path.name for path in tmp_path.iterdir()) == [".model.bin.lock", "model.bin"]
    # Most went on with what another had left, and were sent the rest alone.
    assert kept >= KILLS // 3
    assert all(r.sent <= len(BODY) - (r.start or 0) for r in server.requests)


def test_processes_that_want_the_same_file(server, root, tmp_path):
    url = server.add("/a", BODY, rate=8_000_000)
    target = tmp_path / "cache" / "model.bin"
    children = [start(root, CHILD, url, target) for _ in range(8)]
    for child in children:
        out, err = child.communicate(timeout=30)
        assert (child.returncode, out.strip()) == (0, SHA256), err
    assert [request.sent for request in server.requests] == [len(BODY)]
    assert target.read_bytes() == BODY


def test_a_killed_download_from_the_hub_goes_on(server, root, tmp_path):
    path = server.add_hub("zoo/toy", "model.bin", BODY, large=True, xet=True, rate=4_000_000)
    target = tmp_path / "cache" / "model.bin"
    settings = {
        "HF_ENDPOINT": server.address,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "hf_a",
    }
    child = start(root, HUB_CHILD, "zoo/toy", target, **settings)
    assert child.stdout.readline() == "going\n"
    child.kill()
    child.communicate()
    there = target.with_name("model.bin.part").stat().st_size
    assert 500_000 < there < len(BODY)  # what was still in a buffer is lost
    assert not target.exists()
    child = start(root, HUB_CHILD, "zoo/toy", target, **settings)
    out, err = child.communicate(timeout=30)
    assert (child.returncode, out.split()) == (0, ["going", SHA256]), err
    assert server.starts(path) == [None, there]
    assert server.requests[-1].sent == len(BODY) - there
    assert target.read_bytes() == BODY
    assert sorted(file.name for file in target.parent.iterdir()) == [".model.bin.lock", "model.bin"]
