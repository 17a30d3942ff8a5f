"""Trainings that are told to stop, that diverge, or whose states or disk are damaged."""

import shutil
import signal

import numpy as np
import pytest

from tests.zoo.training.tiny import (
    EVERYTHING,
    TinyNet,
    assert_same_run,
    read_state,
    register_tiny,
    states,
)
from tests.zoo.training.watched import Watched
from zoo.models.base import MODELS
from zoo.training import DivergenceError, InterruptedTrainingError, fit
from zoo.training.checkpoints import TrainingCheckpointError

# Images that are read before step 15 or so of 44, as some are read ahead.
MIDDLE = 64 * 18


@pytest.fixture(autouse=True, scope="module")
def tiny(cached):
    register_tiny()
    yield
    del MODELS["TinyNet"]


def train(folder, data="digits", **changes):
    return fit(TinyNet(), data, folder=folder, workers=0, **{**EVERYTHING, **changes})


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
    assert 5 < states(tmp_path)[0] < 30
    assert f"step {states(tmp_path)[0]} is saved" in str(error.value)
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers
    train(tmp_path)
    assert_same_run(tmp_path, finished)


def test_a_second_ctrl_c_interrupts_at_once(finished, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Watched(MIDDLE, ["interrupt", "interrupt"]), checkpoint_minutes=9.0)
