"""What is no file of results is told in a line that names it."""

import copy
import json

import pytest

from benchmarks.report import __main__ as report
from benchmarks.report import records
from tests.benchmarks.conftest import PAGE
from tests.benchmarks.made_up import models, row


def broken(change):
    """A file of models that something was done to."""
    told = copy.deepcopy(models(row(ours=60, torch=50)))
    change(told)
    return json.dumps(told)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "expected JSON"),
        ("[]", "expected a JSON object, got a list"),
        ("{}", "got 'none'"),
        (broken(lambda told: told.update(benchmark="dreams")), "models, layers, scaling"),
        (broken(lambda told: told.pop("rows")), "expected 'rows', got only 'benchmark'"),
        (broken(lambda told: told.update(rows={})), "expected 'rows' as list, got {}"),
        (broken(lambda told: told["rows"].clear()), "expected at least one row"),
        (broken(lambda told: told.update(command=[1])), "expected commands as strings"),
        (broken(lambda told: told["rows"].append(3)), "rows[1]: expected an object, got 3"),
        (broken(lambda told: told["rows"][0].pop("batch")), "rows[0]: expected 'batch'"),
        (broken(lambda told: told["rows"][0].update(peak=[])), "expected 'peak' as dict, got []"),
        (broken(lambda told: told["rows"].append(told["rows"][0])), "expected each row once"),
        (
            broken(lambda told: told["rows"][0]["seconds"]["ours"].update(median=float("nan"))),
            "rows[0]['seconds']['ours']: expected 0 < lower ≤ median ≤ upper seconds",
        ),
        (
            broken(lambda told: told["rows"][0]["seconds"].update(torch=0.05)),
            "['torch']: expected 0 < lower ≤ median ≤ upper seconds, got 0.05",
        ),
        (
            broken(lambda told: told.update(command="… --device rehearsal")),
            "expected measurements, got those of a rehearsal",
        ),
        (
            json.dumps({"command": "python -m benchmarks.operators", "device": "", "rows": []}),
            "expected 'summary'",
        ),
    ],
)
def test_a_bad_file_is_a_line_that_names_it(made, tmp_path, capsys, text, expected):
    (tmp_path / "bad.json").write_text(text)
    code, page = made()
    told = capsys.readouterr().err
    assert (code, page) == (2, PAGE)
    assert told.startswith(f"{tmp_path / 'bad.json'}")
    assert told.count("\n") == 1
    assert expected in told


def test_missing_files_and_markers_are_named(made, tmp_path, capsys):
    gone = str(tmp_path / "gone")
    assert report.main(["--compare", gone, gone]) == 2
    assert (
        capsys.readouterr().err
        == f"{gone}: expected a file of results: No such file or directory\n"
    )
    assert report.main(["--results", gone]) == 2
    assert f"{gone}: expected a folder" in capsys.readouterr().err
    assert report.main(["--page", gone, "--results", str(tmp_path)]) == 2
    assert f"{gone}: expected a page" in capsys.readouterr().err
    (tmp_path / "page.md").write_text("no markers\n")
    assert made()[0] == 2
    assert "expected <!-- made: models --> on a line" in capsys.readouterr().err


def test_every_committed_file_is_read():
    assert {record.kind for record in records.read_all(records.RESULTS)} >= {"operators"}
