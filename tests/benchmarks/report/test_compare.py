"""Comparison of two files of results: what counts as a regression."""

import copy
import json

import pytest

from benchmarks.report.__main__ import main
from tests.benchmarks.fake_results import models, row, scaling, timing


@pytest.fixture
def compare(tmp_path, capsys):
    """Compares two files; returns the exit code and the lines, or the error."""

    def run(old, new):
        paths = [tmp_path / "old.json", tmp_path / "new.json"]
        for path, content in zip(paths, (old, new), strict=True):
            path.write_text(json.dumps(content))
        code = main(["--compare", *map(str, paths)])
        output = capsys.readouterr()
        return code, (output.err or output.out).splitlines()

    return run


def timings(**seconds):
    """A file of one row with these timings."""
    return models({**row(), "seconds": seconds})


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ({"ours": timing(100)}, {"ours": timing(120)}, "slower"),
        ({"ours": timing(120)}, {"ours": timing(100)}, "faster"),
        ({"ours": timing(100, 0.2)}, {"ours": timing(120)}, ""),  # the quartiles overlap
        ({"ours": timing(100)}, {"ours": timing(120, 0.2)}, ""),
        ({"ours": timing(100, 0)}, {"ours": timing(104, 0)}, ""),  # too small a change
        # The machine slowed down, as PyTorch shows.
        (
            {"ours": timing(100), "torch": timing(50)},
            {"ours": timing(120), "torch": timing(60)},
            "",
        ),
        # The machine became faster, which hides that ours became slower.
        (
            {"ours": timing(100), "torch": timing(50)},
            {"ours": timing(100), "torch": timing(40)},
            "slower",
        ),
        # PyTorch itself is too noisy.
        (
            {"ours": timing(100), "torch": timing(50)},
            {"ours": timing(100), "torch": timing(40, 0.4)},
            "",
        ),
        # PyTorch in one file alone shows no drift.
        ({"ours": timing(100), "torch": timing(50)}, {"ours": timing(120)}, "slower"),
    ],
)
def test_changes_count_beyond_the_noise(compare, old, new, verdict):
    code, lines = compare(timings(**old), timings(**new))
    assert code == (verdict == "slower")
    (line,) = [each for each in lines if each.startswith("MobileNetV2")]
    assert [word for word in line.split() if word in ("slower", "faster")] == verdict.split()


def test_ratio_without_the_drift(compare):
    old = timings(ours=timing(100), torch=timing(50))
    _, lines = compare(old, timings(ours=timing(150), torch=timing(60)))
    (line,) = [each for each in lines if each.startswith("MobileNetV2")]
    name = "MobileNetV2, training step, batch 8, size 224, float32, ours"
    assert line.split() == [*name.split(), "100.00", "150.00", "1.25", "1.20", "slower"]
    assert lines[-1] == "1 timings in both: beyond the noise 1 worse, 0 faster"


def test_another_pytorch_shows_no_drift(compare):
    old = timings(ours=timing(100), torch=timing(50))
    new = timings(ours=timing(100), torch=timing(40))
    new["versions"]["torch"] = {"torch": "2.14.0"}
    assert compare(old, new)[0] == 0


def test_a_slower_peer_is_no_regression(compare):
    old = timings(ours=timing(100), flax=timing(100))
    assert compare(old, timings(ours=timing(100), flax=timing(200)))[0] == 0


def test_a_new_refusal_is_a_regression(compare):
    old, new = timings(ours=timing(100)), timings()
    new["rows"][0]["refusals"] = {"ours": "out of memory"}
    code, lines = compare(old, new)
    assert code == 1
    assert any(line.endswith("gone: out of memory") for line in lines)


def test_rows_of_one_file_alone_are_counted(compare):
    first, second = row(ours=1), row("inference", ours=1)
    code, lines = compare(models(first), models(first, second))
    assert code == 0
    assert lines[-1] == "rows in one file alone: 0 in the old, 1 in the new"


def test_other_devices_and_versions_are_named(compare):
    old, new = timings(ours=timing(1)), timings(ours=timing(1))
    new |= {"device": "another"}
    new["versions"] = {**new["versions"], "ours": {"jax": "0.10.2"}}
    _, lines = compare(old, new)
    assert lines[:2] == [
        "different device: AMD EPYC, 2 cores before, another now",
        "different jax: 0.12.0.1 before, 0.10.2 now",
    ]


def test_scalings_are_compared_at_each_value(compare):
    old, new = scaling(1), scaling(1)
    new["rows"] = copy.deepcopy(new["rows"])
    new["rows"][2]["seconds"]["ours"] = timing(80)
    code, lines = compare(old, new)
    assert code == 1
    (line,) = [line for line in lines if line.endswith("slower")]
    assert "batch, value 4," in line


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (scaling(1), "expected a benchmark of models, got one of scaling"),
        (models(row("inference", ours=1)), "expected rows of ours that"),
    ],
)
def test_files_that_cannot_be_compare(compare, new, expected):
    code, lines = compare(models(row(ours=1)), new)
    assert code == 2
    assert len(lines) == 1
    assert expected in lines[0]
