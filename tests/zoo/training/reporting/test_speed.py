"""Speed by a clock that the test sets."""

import pytest

from zoo.training.reporting import speed
from zoo.training.reporting.speed import WINDOW, Speed


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def advance(self, seconds):
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock.now)
    return clock


def run(measured, clock, steps, computing, waiting):
    for _ in range(steps):
        with measured.waiting():
            clock.advance(waiting)
        clock.advance(computing)
        measured.count_step()


def test_images_a_second_and_the_share_of_waiting(clock):
    measured = Speed(batch_size=8)
    run(measured, clock, 5, computing=1.5, waiting=0.5)
    assert measured.images_per_second == pytest.approx(4)
    assert measured.waiting_share == pytest.approx(0.25)


def test_nothing_is_known_before_two_steps(clock):
    measured = Speed(8)
    for _ in range(2):
        assert measured.images_per_second == measured.waiting_share == 0
        run(measured, clock, 1, computing=3, waiting=4)
    assert measured.images_per_second == pytest.approx(8 / 7)


def test_the_first_step_which_is_compiled_does_not_count(clock):
    measured = Speed(8)
    run(measured, clock, 1, computing=100, waiting=100)
    run(measured, clock, 3, computing=1, waiting=0)
    assert measured.images_per_second == pytest.approx(8)
    assert measured.waiting_share == 0


def test_only_the_last_steps_count(clock):
    measured = Speed(2)
    run(measured, clock, 30, computing=9, waiting=1)
    run(measured, clock, WINDOW, computing=0.5, waiting=0.5)
    assert measured.images_per_second == pytest.approx(2)
    assert measured.waiting_share == pytest.approx(0.5)


def test_steps_that_take_no_time_by_a_coarse_clock(clock):
    measured = Speed(2)
    run(measured, clock, 3, computing=0, waiting=0)
    assert measured.images_per_second == measured.waiting_share == 0
