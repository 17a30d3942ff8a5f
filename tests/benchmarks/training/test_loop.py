"""The benchmark of the loop: what counts as the loop's time, and a whole run."""

import time

import numpy as np
import pytest

from benchmarks.training import loop
from benchmarks.training.photos import write_photos


@pytest.fixture
def clock(monkeypatch):
    """A clock that only moves when it is told to, in a list of one number."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: advance(now, seconds))
    return now


def advance(clock, seconds):
    clock[0] += seconds


def test_a_loop_s_own_time_is_what_its_steps_take_longer(clock):
    """Steps of 1 s in a loop that takes half a second for each, and 9 s to compile the first."""

    def step(state, image):
        advance(clock, 1.0 if state else 10.0)
        return state + image, {"loss": 0.0}

    turns, state = loop.Turns(step, length=4), 0
    for _ in range(5 * 4 + 3):
        advance(clock, 0.5)
        state, metrics = turns(state, 1)
    # The turns that compile and warm up are left out, and so is the one that is not complete.
    assert turns.seconds[loop.FIT] == pytest.approx([1.5] * 3)
    assert turns.seconds[loop.STEP] == pytest.approx([1.0] * 3)
    assert state == 5 * (4 + 1 + 4) + 3
    assert metrics == {"loss": 0.0}


@pytest.mark.parametrize("workers", [0, 1])
def test_the_photos_are_not_all_alike(tmp_path, workers):
    paths = write_photos(tmp_path, (50, 40), 4)
    case = loop.Case("ResNet18", 16, 2, workers, 3)
    train, validation = loop.make_splits(paths, case, 10)
    assert (len(train), validation, len(train.classes)) == (10, None, loop.CLASSES)
    if workers:
        assert list(train.images[:5]) == [*paths, paths[0]]
    else:
        assert train.images.shape == (10, 16, 16, 3)
        assert len(np.unique(train.images[:4], axis=0)) == 4
        assert train.images.std() > 20
    assert train.labels[:6].tolist() == [0, 1, 2, 3, 0, 1]


@pytest.mark.slow
def test_a_training_is_timed_beside_its_step():
    case = loop.Case("SqueezeNet1_1", 32, 2, workers=0, steps=4)
    seconds = loop.measure_case(case, rounds=3)
    assert [len(seconds[name]) for name in (loop.FIT, loop.STEP)] == [3, 3]
    assert all(0 < each < 5 for figures in seconds.values() for each in figures)
