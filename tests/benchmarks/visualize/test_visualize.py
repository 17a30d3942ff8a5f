"""The benchmark of attributions: its options, and that both sides compute the same."""

import subprocess
import sys

import numpy as np
import pytest

from benchmarks.harness.interleaved import Measurement
from benchmarks.report import records
from benchmarks.visualize import cases, libraries, ours
from benchmarks.visualize.__main__ import make_row, parse_arguments
from zoo import visualize

# Both libraries use functions of torch and NumPy that are to go, and captum tells what it does.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:Setting (backward|forward) hooks:UserWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require:UserWarning"),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--only", "VGG99"], "'VGG99'"), (["--rounds", "1"], "at least 2, got 1")],
)
def test_bad_options(arguments, message, capsys):
    with pytest.raises(SystemExit):
        parse_arguments(arguments)
    assert message in capsys.readouterr().err


def test_every_method_is_one_of_ours():
    assert set(cases.LIBRARIES) | set(cases.OPTIONS) <= set(visualize.METHODS)
    names = [case.name for case in parse_arguments([]).cases]
    assert len(set(names)) == len(names)
    assert cases.find_case("ResNet18, grad-cam").method == "grad-cam"


def test_a_ratio_is_that_of_the_faster_library():
    case = cases.find_case("ResNet18, grad-cam")
    rounds = {cases.OURS: [1.0, 2.0], cases.CAPTUM: [3.0, 6.0], cases.GRAD_CAM: [2.0, 4.0]}
    costs = {name: {"seconds": 1.0, "first": 5.0} for name in rounds}
    row = make_row(case, Measurement({**rounds, "another": [1.0]}, {}, {}, costs))
    assert row["ratio"]["median"] == 2
    assert list(row["seconds"]) == list(rounds)
    assert row["first"][cases.OURS] == 5


def test_grad_cam_of_a_file_is_compared_with_a_forward_pass():
    case = cases.find_case(f"{cases.EMBEDDED}, {cases.GRAD_CAM_OF_A_FILE}")
    rounds = {cases.OURS: [2.0, 3.0], cases.FORWARD: [1.0, 1.0]}
    costs = {name: {"seconds": 1.0, "first": 5.0} for name in rounds}
    assert make_row(case, Measurement(rounds, {}, {}, costs))["ratio"]["median"] == 2.5


@pytest.fixture
def small(monkeypatch):
    """Photos of 64 pixels, and a network in its place for them alone."""
    monkeypatch.setattr(cases, "SIZE", 64)
    for prepare in (ours.prepare, libraries.prepare):
        prepare.cache_clear()
    yield
    for prepare in (ours.prepare, libraries.prepare):
        prepare.cache_clear()


@pytest.mark.peer
def test_both_sides_compute_the_same(small):
    """Whether every method does, tests/peers shows; here that the weights, photo and class do."""
    case = cases.find_case("ResNet18, gradient")
    found, wanted = (make(case)() for make in (ours.make_work, libraries.make_captum_work))
    assert found.shape == (1, 64, 64, 3)
    wanted = wanted.transpose(0, 2, 3, 1)
    assert np.abs(found - wanted).mean() <= 1e-3 * np.abs(wanted).max()
    assert np.abs(wanted).max() > 0


@pytest.mark.peer
def test_libraries_compute_what_they_are_timed_for(small):
    for case in cases.CASES:
        if case.model != "ResNet18" or case.slow:
            continue
        if cases.CAPTUM in case.candidates:
            assert np.ptp(libraries.make_captum_work(case)()) > 0
        if cases.GRAD_CAM in case.candidates:
            assert np.ptp(libraries.make_grad_cam_work(case)()) > 0


@pytest.mark.peer
def test_the_command_runs(root, tmp_path):
    file = tmp_path / "visualize.json"
    command = [sys.executable, "-m", "benchmarks.visualize", "--only", "ResNet18, hires-cam"]
    done = subprocess.run(
        [*command, "--rounds", "2", "--json", str(file)],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = records.read_record(file)
    (row,) = record.rows
    assert set(row["seconds"]) == {cases.OURS, cases.GRAD_CAM}
    assert record.jax
    assert "ResNet18, hires-cam" in done.stdout
