"""The command of the benchmark of training: options, ratios of rounds, and a whole run."""

import json
import subprocess
import sys

import pytest

from benchmarks.harness.recording import summarize_row
from benchmarks.report import records
from benchmarks.training.__main__ import list_cases, parse_arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench"], "'bench'"),
        (["loop", "--only", "VGG99"], "'VGG99'"),
        (["input", "--rounds", "1"], "at least 2, got 1"),
    ],
)
def test_bad_options(arguments, message, capsys):
    with pytest.raises(SystemExit):
        parse_arguments(arguments)
    assert message in capsys.readouterr().err


def test_selected_cases():
    assert parse_arguments(["loop"]).cases == list_cases("loop")
    chosen = parse_arguments(["input", "--only", "colours"]).cases
    assert chosen
    assert chosen == [name for name in list_cases("input") if "colours" in name]


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    """The machine is half as fast in the last two rounds, for both."""
    rounds = {"ours": [1.1, 1.2, 2.2, 2.2], "torch": [1.0, 1.0, 2.0, 2.0]}
    row = summarize_row({"case": "a"}, rounds, ("ours", "torch"))
    assert row["ratio"]["median"] == pytest.approx(1.1)
    assert row["ratio"]["upper"] == pytest.approx(1.125)
    assert row["seconds"]["torch"]["median"] == 1.5
    assert "ratio" not in summarize_row({"case": "a"}, rounds, None)


@pytest.mark.peer
def test_the_input_runs_beside_pytorch(root, tmp_path):
    file = tmp_path / "training.json"
    command = [sys.executable, "-m", "benchmarks.training", "input", "--only", "500x375, crop and"]
    done = subprocess.run(
        [*command, "--rounds", "2", "--json", str(file)],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = records.read_record(file)
    (row,) = record.rows
    assert set(row["seconds"]) == {"ours", "torch"}
    assert record.jax
    assert "500x375, crop and flip, 2 workers, batch 32" in done.stdout
    assert str(tmp_path) not in json.dumps(record.content)
