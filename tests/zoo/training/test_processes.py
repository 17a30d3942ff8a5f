"""Several processes that train together through `jax.distributed`, on this host."""

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import numpy as np
import pytest

from tests.zoo.training.conftest import SCRIPT
from tests.zoo.training.tiny import (
    EVERYTHING,
    assert_same_run,
    losses,
    read_metrics,
    read_model,
    read_state,
    states,
)

pytestmark = pytest.mark.slow

# As on one process, but for the rounding of sums; see `test_devices`.
SETTINGS = {
    **EVERYTHING,
    "optimizer": "adamw",
    "rate": 0.03,
    "epochs": 1.0,
    "head_epochs": 0.25,
    "step_epochs": 9.0,
    "evaluate_epochs": 0.5,
    "accumulate": 2,
}
SHORT = {**SETTINGS, "head_epochs": 0.0, "epochs": 0.5, "evaluate_epochs": 1.0}
STEPS = 28
# Images that each of two processes reads before step 12 or so.
MIDDLE = 64 * 12
# Where one process is killed, the others notice that by their heartbeats.
TIMEOUT = 120


class Job:
    """Processes that train together; a call gives what each printed.

    Args:
      environment: of the processes.
      count: how many.
      sharded: spreads large parameters over them.
    """

    def __init__(self, environment, count, sharded=False):
        self.environment, self.count = environment, count
        self.common = {"min_sharded_size": 100} if sharded else {}
        self.settings = {"shard_params": sharded}

    def __call__(self, folder, settings=SETTINGS, **arguments):
        port = free_port()
        settings = {**settings, **self.settings}
        with contextlib.ExitStack() as stack:
            running, errors = [], []
            for number in range(self.count):
                distributed = [port, self.count, number] if self.count > 1 else None
                call = {"folder": str(folder), "settings": settings, "distributed": distributed}
                errors.append(stack.enter_context(tempfile.TemporaryFile("w+")))
                process = subprocess.Popen(
                    [*SCRIPT, json.dumps({**call, **self.common, **arguments})],
                    env=self.environment,
                    stdout=subprocess.PIPE,
                    stderr=errors[-1],
                    text=True,
                )
                running.append(stack.enter_context(process))
                stack.callback(process.kill)
            end = time.monotonic() + TIMEOUT
            try:
                printed = [
                    process.communicate(timeout=max(0, end - time.monotonic()))[0]
                    for process in running
                ]
            except subprocess.TimeoutExpired:
                pytest.fail(describe_hanging(running, errors))
        # Without what Gloo, which sums over processes, says of its connections.
        return [re.sub(r"\[Gloo\].*", "", text).strip() for text in printed]


def describe_hanging(running, errors):
    """What processes that do not end have printed so far, with the stacks of their threads."""
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGUSR1)  # see `train_script`
    time.sleep(1)
    ends = [process.poll() for process in running]
    for process in running:  # all, before the others notice that one is gone
        process.kill()
    lines = [f"not done in {TIMEOUT} s"]
    for number, process in enumerate(running):
        state = "hangs" if ends[number] is None else f"ended with {ends[number]}"
        errors[number].seek(0)
        printed = process.communicate()[0] + errors[number].read()
        lines.append(f"process {number} {state}, and printed:\n{printed}")
    return "\n".join(lines)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def one(environment, tmp_path_factory):
    """The folder of a run of one process."""
    folder = tmp_path_factory.mktemp("one")
    assert Job(environment, 1)(folder) == ["done"]
    return folder


@pytest.fixture(scope="module")
def two(environment):
    return Job(environment, 2, sharded=True)


@pytest.fixture(scope="module")
def finished(two, tmp_path_factory):
    """The folder of a run of two processes, with parameters that are spread over them."""
    folder = tmp_path_factory.mktemp("two")
    assert two(folder) == ["done", "done"]
    return folder


def assert_close_runs(folder, expected):
    for line, want in zip(read_metrics(folder), read_metrics(expected), strict=True):
        assert line == pytest.approx(want, rel=1e-4, abs=1e-6)
    assert losses(folder) == pytest.approx(losses(expected), rel=1e-5)
    got, want = read_model(folder), read_model(expected)
    for path, array in got.items():
        np.testing.assert_allclose(array, want[path], rtol=1e-3, atol=1e-4, err_msg=path)


def test_two_processes_train_as_one_does(finished, one):
    assert_close_runs(finished, one)
    assert any((finished / "states").glob("*/state/ocdbt.process_1/d/*"))


def test_four_processes_train_as_one_does(environment, one, tmp_path):
    assert Job(environment, 4)(tmp_path) == 4 * ["done"]
    assert_close_runs(tmp_path, one)


@pytest.mark.parametrize("process", [0, 1])
def test_one_of_the_processes_is_killed(process, two, finished, tmp_path):
    printed = two(tmp_path, watched={"at": MIDDLE, "events": ["kill"], "process": process})
    assert printed[process] == ""
    assert "done" not in printed
    assert 1 < states(tmp_path)[0] < STEPS
    assert two(tmp_path) == ["done", "done"]
    assert_same_run(tmp_path, finished)


@pytest.mark.parametrize(("event", "process"), [("term", 1), ("interrupt", 0)])
def test_a_signal_to_one_process_stops_all(event, process, two, finished, tmp_path):
    printed = two(tmp_path, watched={"at": MIDDLE, "events": [event], "process": process})
    step = states(tmp_path)[0]
    assert 1 < step < STEPS
    message = f"step {step} is saved, and the same call goes on from there"
    assert printed == 2 * [f"InterruptedTrainingError: interrupted; {message}"]
    assert two(tmp_path) == ["done", "done"]
    assert_same_run(tmp_path, finished)


def test_one_process_makes_folders_slowly(two, finished, tmp_path):
    """The other waits for them, also where the first one has saved models alone in between."""
    assert two(tmp_path, slow_process=0) == ["done", "done"]
    assert_same_run(tmp_path, finished)


def test_the_part_of_a_state_that_one_process_saved_is_damaged(two, finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    saved = copy / "states" / str(states(copy)[0]) / "state" / "ocdbt.process_1"
    files = [path for path in saved.rglob("*") if path.is_file()]
    file = max(files, key=lambda path: path.stat().st_size)
    file.write_bytes(file.read_bytes()[:-20])
    assert two(copy) == ["done", "done"]
    assert_same_run(copy, finished)


@pytest.mark.parametrize("at", [3, MIDDLE])  # of the first batch, or of the first evaluation
def test_an_error_in_one_process_ends_all(at, two, tmp_path):
    watched = {"at": at, "events": ["fail"], "process": 1}
    error = "RuntimeError: the data set fails"
    assert two(tmp_path, watched=watched) == [f"ProcessError: process 1 failed: {error}", error]


def test_a_folder_of_something_else(two, tmp_path):
    (tmp_path / "photo.jpg").touch()
    first, second = two(tmp_path)
    assert "holds something that is no run" in first
    assert second == f"ProcessError: process 0 failed: {first}"


def test_images_that_one_process_cannot_read(two, tmp_path):
    """They count together, and all processes know them."""
    watched = {"unreadable": 9, "process": 1}
    assert two(tmp_path / "few", SHORT, watched=watched) == ["done", "done"]
    skipped = read_state(tmp_path / "few")[1]["skipped"]
    assert 1 <= len(skipped) <= 9
    assert all("damaged" in message for message in skipped)
    first, second = two(tmp_path / "many", SHORT, watched={"unreadable": 400, "process": 1})
    assert first == second
    assert "images cannot be read, and max_skipped is 0.01" in first
