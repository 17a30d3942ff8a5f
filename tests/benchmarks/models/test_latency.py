"""The benchmark of single calls: options, samples by mode, agreement, and a whole run."""

import subprocess
import sys

import pytest

from benchmarks.harness.interleaved import Measurement
from benchmarks.models import latency, starts
from benchmarks.models.latency_worker import LatencyPoint, Mode
from benchmarks.report import records


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batches", "0"], "--batches"),
        (["--peers", "torch"], "some of onnxruntime, ours; got 'torch'"),
        (["--rounds", "1"], "--rounds"),
        (["--pause", "0"], "--pause"),
        (["--starts", "1"], "--starts"),
        (["--size", "0"], "--size"),
    ],
)
def test_bad_options(arguments, message, capsys):
    with pytest.raises(SystemExit):
        latency.parse_arguments(arguments)
    assert message in capsys.readouterr().err


def test_selected_points():
    options = latency.parse_arguments(["--models", "mobilenetv2,Xception", "--batches", "1,8"])
    points = latency.select_points(options)
    assert [(each.model, each.batch, each.size) for each in points] == [
        ("MobileNetV2", 1, 224),
        ("MobileNetV2", 8, 224),
        ("Xception", 1, 299),
        ("Xception", 8, 299),
    ]
    with pytest.raises(SystemExit, match="Perceptron"):
        latency.select_points(latency.parse_arguments(["--models", "Perceptron"]))


def test_onnxruntime_runs_under_this_python():
    options = latency.parse_arguments(["--jax-python", "other-python"])
    pythons = {name: command[0] for name, command in latency.make_commands(options).items()}
    assert pythons == {
        "ours, compiled": "other-python",
        "onnxruntime": sys.executable,
        "ours": "other-python",
    }


def test_modes_of_a_round():
    modes = latency.list_modes(pause=0.03)
    assert list(modes) == ["back to back", "after 30 ms", "taking turns"]
    assert {sum(mode.calls for mode in each) for each in modes.values()} == {latency.CALLS}
    every = [mode for each in modes.values() for mode in each]
    point = LatencyPoint("VGG16", 1, 224, every)
    assert LatencyPoint.decode(point.encode()) == point
    assert [Mode.decode(mode.encode()) for mode in every] == every
    assert Mode(0.5, calls=2, warm_up=1).estimate_seconds(call=0.1) == pytest.approx(1.4)


def test_samples_are_grouped_by_mode():
    answers = [[1.0, 2.0], [3.0], [4.0], [5.0, 6.0], [7.0], [8.0]]
    grouped = latency.group_by_mode(["a", "b", "b"], answers)
    assert grouped == {"a": [1.0, 2.0, 5.0, 6.0], "b": [3.0, 4.0, 7.0, 8.0]}


def test_percentiles():
    summary = latency.summarize([float(each) for each in range(101)])
    expected = {"lower": 25, "median": 50, "upper": 75, "p90": 90, "p99": 99, "count": 101}
    assert summary == expected


def test_other_logits_are_an_error():
    def check(**logits):
        costs = {name: {"logits": each} for name, each in logits.items()}
        latency.check_agreement(Measurement({}, {}, {}, costs))

    check()
    check(ours=[1.0, -2.0], onnxruntime=[1.001, -2.001])
    for logits in ([1.0, -1.9], [1.0, float("nan")]):
        with pytest.raises(SystemExit, match="the logits of onnxruntime and ours differ by"):
            check(ours=[1.0, -2.0], onnxruntime=logits)


@pytest.mark.peer
def test_a_run(root, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra `peers` has it")
    file = tmp_path / "latency.json"
    arguments = ["--models", "SqueezeNet1_1", "--batches", "2", "--size", "32", "--rounds", "2"]
    arguments += ["--peers", "onnxruntime", "--pause", "0.01", "--json", str(file)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.models.latency", *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) not in file.read_text()
    record = records.read_record(file)
    assert record.kind == "latency"
    assert [row["mode"] for row in record.rows] == ["back to back", "after 10 ms", "taking turns"]
    for row in record.rows:
        assert not row["refusals"]
        assert set(row["seconds"]) == {"ours, compiled", "onnxruntime"}
        assert {timing["count"] for timing in row["seconds"].values()} == {2 * latency.CALLS}
    assert "SqueezeNet1_1, N2, taking turns: ours, compiled " in done.stdout


@pytest.mark.peer
def test_starts(root, monkeypatch):
    pytest.importorskip("onnxruntime", reason="the extra `peers` has it")
    monkeypatch.chdir(root)
    pythons = dict.fromkeys((starts.CACHED, "onnxruntime"), sys.executable)
    seconds = starts.time_starts(pythons, "SqueezeNet1_1", batch=1, size=32, rounds=1)
    assert {name: len(each) for name, each in seconds.items()} == dict.fromkeys(pythons, 1)
    with pytest.raises(SystemExit, match="stopped with exit code 1"):
        starts.time_starts({"onnxruntime": "false"}, "SqueezeNet1_1", 1, 32, 1)
