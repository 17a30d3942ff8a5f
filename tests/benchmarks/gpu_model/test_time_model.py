"""The model of GPU times beside what was measured on an H100 and an H200."""

import numpy as np
import pytest

from benchmarks.gpu_model import calibrate
from benchmarks.gpu_model.time_model import COEFFICIENTS, LaunchWork, combine, model_launches


@pytest.fixture(scope="module")
def measured():
    return calibrate.read_measured()


def test_it_predicts_shapes_that_it_was_not_fitted_to(measured):
    """Each of 20 shapes is left out in turn; 208 passes on two cards."""
    errors = np.abs(calibrate.cross_validate(measured))
    assert len(errors) == 208
    assert np.median(errors) <= 0.11
    assert np.mean(errors < 0.3) >= 0.91


def test_the_coefficients_are_those_of_the_fit(measured):
    """They are written with two digits and more."""
    for name, value in calibrate.fit(measured)._asdict().items():
        assert getattr(COEFFICIENTS, name) == pytest.approx(value, rel=0.02), name


def test_a_model_without_an_idea_predicts_less(measured):
    """The limit alone, as one factor of it, is off by twice as much."""
    works, rates = measured.works, measured.rates
    limits = np.bincount(measured.passes, works[:, LaunchWork._fields.index("bytes")] / rates)
    ratios = measured.seconds / (limits + measured.others)
    errors = np.abs(np.median(ratios) / ratios - 1)
    assert np.median(errors) > 0.2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("row_bytes", 16),
        ("loads", 66),
        ("instructions", 2000),
        ("bytes", 10**9),
        ("resident", 1),
        ("unique", 1.0),
        ("walks", True),
    ],
)
def test_more_work_takes_longer(field, value):
    work = LaunchWork(50_000, 12_500, 4, 33, 8, 450, 10**8, 64, 0.6, False)
    before, after = (
        combine(model_launches(np.array([each], float), 3e12))[0]
        for each in (work, work._replace(**{field: value}))
    )
    assert after > 1.001 * before
