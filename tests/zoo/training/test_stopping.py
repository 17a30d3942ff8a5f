"""Trainings that are told to stop, that diverge, or whose states or disk are damaged."""

import re
import shutil
import signal

import numpy as np
import pytest

from tests.zoo.training.tiny import (
    EVERYTHING,
    assert_same_run,
    read_state,
    register_tiny,
    smooth_net,
    states,
)
from tests.zoo.training.watched import Watched
from zoo.models.base import MODELS
from zoo.training import DivergenceError, InterruptedTrainingError, fit
from zoo.training.checkpoints import TrainingCheckpointError

pytestmark = pytest.mark.slow

# Images that are read before step 9 or so of 44, those of validation included.
MIDDLE = 64 * 18


@pytest.fixture(autouse=True, scope="module")
def tiny(cached):
    register_tiny()
    yield
    del MODELS["TinyNet"]


def train(folder, data="digits", **changes):
    return fit(smooth_net(), data, folder=folder, workers=0, **{**EVERYTHING, **changes})


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(folder)
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    """A finished run, to be damaged."""
    return shutil.copytree(finished, tmp_path / "copy")


@pytest.mark.parametrize(
    ("event", "number"), [("term", signal.SIGTERM), ("interrupt", signal.SIGINT)]
)
def test_a_signal_saves_the_state_and_stops(event, number, finished, tmp_path):
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(InterruptedTrainingError, match="the same call goes on") as error:
        train(tmp_path, Watched(MIDDLE, [event]))
    assert error.value.signal_number == number
    assert 1 < states(tmp_path)[0] < 30
    assert f"step {states(tmp_path)[0]} is saved" in str(error.value)
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers
    train(tmp_path)
    assert_same_run(tmp_path, finished)


def test_a_second_ctrl_c_interrupts_at_once(finished, tmp_path):
    twice = Watched(MIDDLE, ["interrupt", "interrupt"], pause=0.02)  # less than saving takes
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, twice, checkpoint_minutes=9.0)


def newest(folder):
    return folder / "states" / str(states(folder)[0])


def largest_file(folder):
    """Of arrays, as the others are small."""
    return max((newest(folder) / "state").rglob("*"), key=lambda path: path.stat().st_size)


def truncate(folder):
    file = largest_file(folder)
    file.write_bytes(file.read_bytes()[:-100])


def flip(folder):
    file = largest_file(folder)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)


def lose_a_file(folder):
    largest_file(folder).unlink()


def empty_the_progress(folder):
    (newest(folder) / "progress" / "metadata").write_text("")


def change_the_progress(folder):
    file = newest(folder) / "progress" / "metadata"
    text = file.read_text()
    assert '"plateau_factor": 0.' in text
    file.write_text(text.replace('"plateau_factor": 0.', '"plateau_factor": 1.'))


DAMAGES = [truncate, flip, lose_a_file, empty_the_progress, change_the_progress]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_gives_way_to_the_one_before(damage, finished, copy, capsys):
    last, before = states(copy)
    damage(copy)
    train(copy)
    printed = capsys.readouterr().err
    assert f"the state of step {last} is damaged" in printed
    assert f"going on from step {before}" in printed
    assert "Traceback" not in printed
    assert_same_run(copy, finished)


@pytest.mark.parametrize("damage", DAMAGES)
def test_states_that_are_all_damaged(damage, copy):
    damage(copy)
    last = newest(copy).rename(copy / "last")
    damage(copy)
    last.rename(copy / "states" / str(states(copy)[0] + 2))
    with pytest.raises(TrainingCheckpointError, match=r"no state in .* can be read; remove the"):
        train(copy)
    assert len(states(copy)) == 2


# With SGD the loss is soon no number; a batch norm's running variance may be infinite before.
@pytest.mark.parametrize("rate", [1e9, 1e4])
def test_a_training_that_diverges_keeps_the_last_good_state(rate, tmp_path):
    with pytest.raises(DivergenceError, match=r"diverged in step \d+: .*") as error:
        train(tmp_path, rate=rate, average_decay=0.0, head_epochs=0.0, mixup=0.0)
    assert f"the state of step {states(tmp_path)[0]} is kept" in str(error.value)
    arrays, _ = read_state(tmp_path)
    assert all(np.isfinite(array).all() for array in arrays.values())


# What cannot be written first from some step on: a line of the record, a state, the model.
FULL = {
    "record": (
        1_000,
        {"checkpoint_minutes": 9.0},
        r"OSError: .*File too large: .*metrics\.jsonl.*",
    ),
    "state": (4_000, {}, r"TrainingCheckpointError: .*cannot be saved.* too large.* is kept$"),
    "model": (
        1_000,
        {"checkpoint_minutes": 9.0, "validation": 0.0, "schedule": "cosine"},
        r"OSError: .*File too large: .*run",
    ),
}


@pytest.mark.parametrize("case", FULL)
def test_a_full_disk(case, server, finished, tmp_path):
    at = MIDDLE if case == "state" else 2 * MIDDLE  # so that a state was saved before
    limit, changes, message = FULL[case]
    settings, run, whole = {**EVERYTHING, **changes}, tmp_path / "run", finished
    server.start(run, settings=settings, watched={"at": at, "events": [limit]})
    [error] = server.end()
    assert re.match(message, error)
    assert states(run)
    server.start(run, settings=settings)
    assert server.end() == ["done"]
    if case == "model":  # which other settings let be saved at each evaluation
        whole = tmp_path / "whole"
        server.start(whole, settings=settings)
        assert server.end() == ["done"]
    assert_same_run(run, whole)
