"""Downloads by processes that are killed, or that want the same file: complete or absent."""

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

# Forks a process for each line of standard input, as starting Python takes too long.
FORK_SERVER = """
import os, sys
from pathlib import Path
import filelock, urllib3
from zoo_pretrained.fetch import Digest, fetch
url, target, digest = sys.argv[1], Path(sys.argv[2]), Digest("sha256", sys.argv[3])

def report(done, total, reported=[]):
    if not reported:
        reported.append(print("started", flush=True))

for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        print(os.getpid(), flush=True)
        fetch(url, target, digest=digest, progress=report)
        os._exit(0)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


HUB_CHILD = """
import sys
from pathlib import Path
from zoo_pretrained.hub import fetch_from_hub

def report(done, total, reported=[]):
    if not reported and done > 1_000_000:
        reported.append(print("started", flush=True))

print(fetch_from_hub(sys.argv[1], "model.bin", Path(sys.argv[2]), progress=report), flush=True)
"""


@pytest.fixture(autouse=True)
def long_timeout(clean_environment, monkeypatch):
    monkeypatch.setenv("ZOO_TIMEOUT", "20")


def start(code, url, target, **settings):
    """Starts a Python process that imports from where this one does."""
    return subprocess.Popen(
        [sys.executable, "-c", code, url, str(target), SHA256],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), **settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def test_a_process_killed_at_any_moment(server, tmp_path):
    """The file is complete or absent each time, and received bytes are not sent again."""
    draw = random.Random(4)
    url = server.add("/a", BODY, rate=6_000_000)
    target, part = tmp_path / "model.bin", tmp_path / "model.bin.part"
    resumed = received = 0
    fork_server = start(FORK_SERVER, url, target)
    for kill in range(KILLS):
        previous = len(server.requests)
        fork_server.stdin.write("\n")
        child = int(fork_server.stdout.readline())
        line = (
            fork_server.stdout.readline() if kill % 3 else ""
        )  # otherwise perhaps before it sends a request
        time.sleep(draw.uniform(0, 0.2))
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        while line != "ended\n":
            line = fork_server.stdout.readline()
            assert line
        starts = [request.start for request in server.requests[previous:]]
        assert set(starts) <= {received or None}
        resumed += starts == [received]
        if target.exists():
            assert hashlib.sha256(target.read_bytes()).hexdigest() == SHA256
            target.unlink()
        received = part.stat().st_size if part.exists() else 0
        assert BODY.startswith(part.read_bytes() if received else b"")
    _, stderr = fork_server.communicate()
    assert fork_server.returncode == 0, stderr
    assert "Traceback" not in stderr
    assert fetch(url, target, digest=Digest("sha256", SHA256)) == SHA256
    assert target.read_bytes() == BODY
    assert sorted(path.name for path in tmp_path.iterdir()) == [".model.bin.lock", "model.bin"]
    # Many resumed what another had left, and were sent the rest only.
    assert resumed >= KILLS // 3
    assert all(r.sent <= len(BODY) - (r.start or 0) for r in server.requests)


def test_processes_that_want_the_same_file_download_it_once(server, tmp_path):
    url = server.add("/a", BODY, rate=8_000_000)
    target = tmp_path / "cache" / "model.bin"
    children = [start(CHILD, url, target) for _ in range(8)]
    for child in children:
        stdout, stderr = child.communicate(timeout=30)
        assert (child.returncode, stdout.strip()) == (0, SHA256), stderr
    assert [request.sent for request in server.requests] == [len(BODY)]
    assert target.read_bytes() == BODY


def test_a_killed_download_from_the_hub_is_resumed(server, tmp_path):
    path = server.add_hub("zoo/toy", "model.bin", BODY, large=True, xet=True, rate=4_000_000)
    target = tmp_path / "cache" / "model.bin"
    settings = {
        "HF_ENDPOINT": server.address,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "hf_a",
    }
    child = start(HUB_CHILD, "zoo/toy", target, **settings)
    assert child.stdout.readline() == "started\n"
    child.kill()
    child.communicate()
    received = target.with_name("model.bin.part").stat().st_size
    assert 500_000 < received < len(BODY)  # what was in a buffer is lost
    assert not target.exists()
    child = start(HUB_CHILD, "zoo/toy", target, **settings)
    stdout, stderr = child.communicate(timeout=30)
    assert (child.returncode, stdout.split()) == (0, ["started", SHA256]), stderr
    assert server.starts(path) == [None, received]
    assert server.requests[-1].sent == len(BODY) - received
    assert target.read_bytes() == BODY
    assert sorted(file.name for file in target.parent.iterdir()) == [".model.bin.lock", "model.bin"]
