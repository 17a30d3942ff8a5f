"""A training that is killed at any moment and started again ends as if it had not been."""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.zoo.training.tiny import EVERYTHING, assert_same_run

KILLS = 20
# Every so many of them, the images are decoded by a worker process.
WORKERS_EVERY = 4
# What a kill waits for, before a random delay of up to so many seconds.
MOMENTS = {
    "start": ("", 3.0),
    "state": ("states/*tmp*", 0.2),
    "model": (".model.*", 0.1),
    "step": ("states/*", 1.5),
}


@pytest.fixture(scope="module")
def uninterrupted(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    server.start(folder, settings=EVERYTHING)
    assert server.end() == ["done"]
    return folder


def wait_for(moment, folder, child, draw):
    """Waits for a moment of a training, or for its end."""
    pattern, delay = MOMENTS[moment]
    before = set(folder.glob(pattern)) if pattern else set()
    while pattern and members(child) and not set(folder.glob(pattern)) - before:
        time.sleep(0.002)
    time.sleep(draw.uniform(0, delay))


def members(session):
    """The processes of a session."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, number = file.read_text().rpartition(")")[2].split()[:4]
            if int(number) == session and state != "Z":
                found.append(file.parent.name)
    return found


def is_gone(session):
    """Whether all processes of a session end, which may take a moment."""
    deadline = time.monotonic() + 20
    while members(session) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not members(session)


@pytest.mark.slow
def test_a_training_killed_at_any_moment(server, environment, uninterrupted, tmp_path):
    """It ends as the one that was not killed, and leaves no processes and no other files."""
    draw = random.Random(seed := random.randrange(1 << 32))
    print("seed", seed)
    killed, while_saving, runs = 0, 0, 0
    while killed < KILLS:  # in several runs, where one ends before there are so many
        folder, printed = tmp_path / str(runs), []
        while printed != ["done"]:
            workers = int(killed % WORKERS_EVERY == WORKERS_EVERY - 1)
            child = server.start(folder, settings=EVERYTHING, workers=workers)
            if killed < KILLS:
                wait_for(draw.choice(list(MOMENTS)), folder, child, draw)
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            printed = server.end()
            assert is_gone(child)
            assert printed in ([], ["done"])
            killed += not printed
            while_saving += not printed and any(folder.glob("states/*tmp*"))
        assert_same_run(folder, uninterrupted)
        runs += 1
    # This removes what killed ones left.
    server.start(tmp_path / "last", settings=EVERYTHING, workers=1)
    assert server.end() == ["done"]
    assert_same_run(tmp_path / "last", uninterrupted)
    print(f"{killed} kills, {while_saving} of them while a state was saved, in {runs} runs")
    assert while_saving >= KILLS // 6
    assert not any(Path(environment["TMPDIR"]).iterdir())
