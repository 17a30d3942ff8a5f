"""Errors for files that are no results: a line that names the file."""

import copy
import importlib.util
import json
import shlex

import pytest

from benchmarks.detection import __main__ as detection_main
from benchmarks.models import __main__ as models_main
from benchmarks.models import latency as latency_main
from benchmarks.models import scaling
from benchmarks.operators import __main__ as operators
from benchmarks.report import records
from benchmarks.report.__main__ import main
from benchmarks.serving import __main__ as serving_main
from benchmarks.style import __main__ as style_main
from benchmarks.style import quality
from benchmarks.training import __main__ as training_main
from benchmarks.visualize import __main__ as visualize_main
from tests.benchmarks.conftest import PAGE
from tests.benchmarks.fake_results import latency, latency_row, models, row, timing, training_loop


def broken(change):
    """A file of models, changed in place."""
    content = copy.deepcopy(models(row(ours=60, torch=50)))
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "expected JSON"),
        ("[]", "expected a JSON object, got a list"),
        ("{}", "got 'none'"),
        (broken(lambda file: file.update(benchmark="dreams")), "models, layers, scaling"),
        (broken(lambda file: file.pop("rows")), "expected 'rows', got only 'benchmark'"),
        (broken(lambda file: file.update(rows={})), "expected 'rows' as list, got {}"),
        (broken(lambda file: file["rows"].clear()), "expected at least one row"),
        (broken(lambda file: file.update(command=[1])), "expected commands as strings"),
        (broken(lambda file: file["rows"].append(3)), "rows[1]: expected an object, got 3"),
        (broken(lambda file: file["rows"][0].pop("batch")), "rows[0]: expected 'batch'"),
        (broken(lambda file: file["rows"][0].update(peak=[])), "expected 'peak' as dict, got []"),
        (broken(lambda file: file["rows"].append(file["rows"][0])), "expected each row once"),
        (
            broken(lambda file: file["rows"][0]["seconds"]["ours"].update(median=float("nan"))),
            "rows[0]['seconds']['ours']: expected 0 < lower ≤ median ≤ upper seconds",
        ),
        (
            broken(lambda file: file["rows"][0]["seconds"].update(torch=0.05)),
            "['torch']: expected 0 < lower ≤ median ≤ upper seconds, got 0.05",
        ),
        (
            broken(lambda file: file.update(command="… --device rehearsal")),
            "expected measurements, got those of a rehearsal",
        ),
        (
            broken(lambda file: file.update(command="… --quick")),
            "expected measurements, got those of a rehearsal",
        ),
        (
            json.dumps({"command": "python -m benchmarks.operators", "device": "", "rows": []}),
            "expected 'summary'",
        ),
        (
            json.dumps(latency({**latency_row(), "seconds": {"ours": timing(3)}})),
            "rows[0]['seconds']['ours']: expected 'p90', got only",
        ),
        (
            json.dumps(latency(latency_row(ours=3), starts=[{"model": "MobileNetV2"}])),
            "starts[0]: expected 'seconds', got only 'model'",
        ),
        (json.dumps({**training_loop(), "topic": 3}), "expected 'topic' as str, got 3"),
        (
            json.dumps(training_loop(ratio=None)),
            "rows[0]['ratio']: expected 0 < lower ≤ median ≤ upper",
        ),
    ],
)
def test_a_bad_file_is_named_in_one_line(write_page, tmp_path, capsys, text, expected):
    (tmp_path / "bad.json").write_text(text)
    code, page = write_page()
    error = capsys.readouterr().err
    assert (code, page) == (2, PAGE)
    assert error.startswith(f"{tmp_path / 'bad.json'}")
    assert error.count("\n") == 1
    assert expected in error


def test_missing_files_and_markers_are_named(write_page, tmp_path, capsys):
    missing = str(tmp_path / "missing")
    assert main(["--compare", missing, missing]) == 2
    assert (
        capsys.readouterr().err
        == f"{missing}: expected a file of results: No such file or directory\n"
    )
    assert main(["--results", missing]) == 2
    assert f"{missing}: expected a folder" in capsys.readouterr().err
    assert main(["--page", missing, "--results", str(tmp_path)]) == 2
    assert f"{missing}: expected a page" in capsys.readouterr().err
    (tmp_path / "page.md").write_text("no markers\n")
    assert write_page()[0] == 2
    assert "expected <!-- generated: models --> on a line" in capsys.readouterr().err


@pytest.mark.parametrize(
    "kind", ["classify", "serving", "weights", "gpu_model", "gpu_calibration", "gpu_survey"]
)
def test_missing_content_is_named(write_page, tmp_path, capsys, kind):
    (tmp_path / "bad.json").write_text(json.dumps({"benchmark": kind}))
    assert write_page()[0] == 2
    assert f"bad.json, a benchmark of {kind}: expected '" in capsys.readouterr().err


def test_every_committed_file_is_read():
    assert {record.kind for record in records.read_folder(records.RESULTS)} == {*records.KINDS}


PARSERS = {
    "operators": operators.parse_arguments,
    "models": models_main.parse_arguments,
    "scaling": scaling.parse_arguments,
    "latency": latency_main.parse_arguments,
    "serving": serving_main.parse_arguments,
    "training": training_main.parse_arguments,
    "visualize": visualize_main.parse_arguments,
    "style": style_main.parse_arguments,
    "detection": detection_main.parse_arguments,
    "quality": quality.parse_arguments,
}


@pytest.mark.parametrize("path", sorted(records.RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_recorded_commands_exist(path):
    for command in records.read_record(path).commands:
        python, option, module, *arguments = shlex.split(command)
        assert (python, option) == ("python", "-m")
        assert importlib.util.find_spec(module) is not None
        if parse := PARSERS.get(module.rpartition(".")[2]):
            parse(arguments)
        else:
            assert not arguments
