"""The benchmark of style transfer: its options, its ratio, and the two sides' pictures."""

import jax
import numpy as np
import pytest

from benchmarks.harness.interleaved import Measurement
from benchmarks.style.__main__ import make_row, parse_arguments
from benchmarks.style.candidates import make_torch_work, make_zoo_work
from benchmarks.style.cases import CASES, PAINT, STEP, TORCH, ZOO, Case


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--only", "sculpt"], "'sculpt'"), (["--rounds", "1"], "at least 2, got 1")],
)
def test_bad_options(arguments, message, capsys):
    with pytest.raises(SystemExit):
        parse_arguments(arguments)
    assert message in capsys.readouterr().err


def test_cases_have_names_of_their_own():
    assert len({case.name for case in CASES}) == len(CASES)
    assert parse_arguments(["--only", "1024"]).cases == [
        case for case in CASES if case.size == 1024
    ]


def test_the_ratio_is_pytorchs_time_to_ours():
    rounds = {ZOO: [1.0, 2.0], TORCH: [3.0, 6.0]}
    costs = {name: {"seconds": 1.0, "first": 5.0} for name in rounds}
    assert make_row(CASES[0], Measurement(rounds, {}, {}, costs))["ratio"]["median"] == 3


def test_ours_paints_a_picture_of_the_photos_size():
    pictures = make_zoo_work(Case(PAINT, 1 / 16, 32, 2))()
    assert (pictures.shape, pictures.dtype) == ((2, 32, 32, 3), np.uint8)


@pytest.mark.peer
def test_theirs_paints_and_trains():
    pictures = make_torch_work(Case(PAINT, 1 / 16, 32, 2))()
    assert (pictures.shape, pictures.dtype) == ((2, 32, 32, 3), np.uint8)
    step = make_torch_work(Case(STEP, 1 / 16, 32, 1))
    assert step() > step() > 0  # Adam's second step begins lower


@pytest.mark.peer
def test_ours_trains():
    step = make_zoo_work(Case(STEP, 1 / 16, 32, 1))
    losses = [float(step()["loss"]) for _ in range(2)]
    assert np.isfinite(losses).all()
    assert jax.tree.all(jax.tree.map(lambda loss: loss > 0, losses))
