"""The load test of `zoo serve`: its options, what counts as lost, its figures, and their table."""

import asyncio
import sys

import pytest

from benchmarks.serving.__main__ import (
    ONNXRUNTIME,
    ZOO,
    check_agreement,
    main,
    make_commands,
    make_row,
    measure,
    parse_arguments,
    percentile,
    start_server,
)
from benchmarks.serving.clients import PHOTOS, Load, load
from tests.zoo.serve.clients import serving
from tests.zoo.serve.fake_model import FakeModel
from zoo.serve.app import Limits

FAKE = [sys.executable, "-m", "tests.zoo.serve.fake_model", "127.0.0.1", "0", "100"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "test"),
        (["load", "--clients", "many"], "expected numbers as in 1,4,16, got 'many'"),
        (["load", "--clients", "0"], "at least 1, got 0"),
        (["load", "--rounds", "1"], "at least 2, got 1"),
        (["load", "--requests", "79"], "one for each client in each round, got 79"),
        (["load", "--peers", "torch"], "expected one of onnxruntime, or none; got 'torch'"),
    ],
)
def test_bad_options(arguments, message, capsys):
    with pytest.raises(SystemExit):
        parse_arguments(arguments)
    assert message in capsys.readouterr().err


def test_servers():
    options = parse_arguments(["load", "--jax-python", "other", "--batch-sizes", "1,4"])
    commands = make_commands(options)
    assert list(commands) == [ZOO, ONNXRUNTIME]
    assert commands[ZOO][:4] == ["other", "-m", "zoo", "serve"]
    assert commands[ONNXRUNTIME][-3] == "4"
    assert list(make_commands(parse_arguments(["load", "--peers", "none"]))) == [ZOO]


def test_every_request_is_answered_and_timed():
    model = FakeModel(0.01)
    with serving(model) as port:
        result = asyncio.run(load(port, 40, 8))
    assert len(result.latencies) == 40
    assert result.lost == {}
    assert result.seconds > max(result.latencies) > 0.01
    assert set(result.labels) == {photo.stem for photo in PHOTOS}
    assert sum(model.batches) == 40 + len(PHOTOS)
    assert max(model.batches) > 1


class Fickle(FakeModel):
    """Gives other answers from the tenth photo on."""

    def probabilities(self, x):
        rows = super().probabilities(x)
        return rows if sum(self.batches) < 10 else rows[:, ::-1] * [0.5, 1, 2]


def test_wrong_answers_are_lost():
    with serving(Fickle()) as port:
        result = asyncio.run(load(port, 20, 2))
    assert len(result.latencies) + sum(result.lost.values()) == 20
    assert any(what.startswith("ValueError: expected ") for what in result.lost)


def test_refused_requests_are_lost():
    with serving(FakeModel(0.02), Limits(queue=1)) as port:
        result = asyncio.run(load(port, 30, 6))
    assert len(result.latencies) + sum(result.lost.values()) == 30
    assert {what[:22] for what in result.lost} == {"ValueError: status 503"}


def test_servers_take_turns(monkeypatch):
    asked = []

    def run_clients(port, requests, clients):
        asked.append((port, requests, clients))
        return Load(1.0, [], {}, {})

    monkeypatch.setattr("benchmarks.serving.__main__.run_clients", run_clients)
    loads = measure({"a": 1, "b": 2}, clients=4, requests=8, rounds=3)
    assert asked == [(1, 3, 4), (2, 3, 4), (2, 3, 4), (1, 3, 4), (1, 2, 4), (2, 2, 4)]
    assert [len(each) for each in loads.values()] == [3, 3]


def test_a_row():
    loads = [
        Load(2.0, [0.1, 0.2, 0.3, 0.4], {"x": 1}, {}),
        Load(1.0, [0.5] * 4, {"x": 1, "y": 2}, {}),
    ]
    row = make_row(ZOO, 4, loads)
    assert (row["requests"], row["lost"]) == (12, {"x": 2, "y": 2})
    assert row["requests_a_second"]["median"] == 3
    assert row["seconds"] == {"p50": 0.4, "p90": 0.5, "p99": 0.5}
    assert make_row(ZOO, 4, [Load(1.0, [], {"x": 3}, {})] * 2)["seconds"]["p50"] is None


def test_percentiles():
    assert [percentile(range(1, 101), share) for share in (1, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([7], 50) == 7


def test_servers_that_disagree():
    loads = {name: [Load(1.0, [], {}, {"cat": name})] for name in (ZOO, ONNXRUNTIME)}
    with pytest.raises(SystemExit, match="disagree"):
        check_agreement(loads)
    check_agreement({ZOO: loads[ZOO]})


def test_a_server_that_does_not_start(root, monkeypatch):
    monkeypatch.chdir(root)
    with (
        pytest.raises(SystemExit, match="does not serve"),
        start_server([sys.executable, "-c", ""]),
    ):
        pass


def test_the_whole_run(root, monkeypatch, tmp_path, capsys, write_page):
    file = tmp_path / "serving.json"
    arguments = [
        "load",
        "--requests",
        "12",
        "--rounds",
        "2",
        "--clients",
        "1,3",
        "--json",
        str(file),
    ]
    monkeypatch.setattr(sys, "argv", ["benchmarks.serving", *arguments])
    monkeypatch.setattr(
        "benchmarks.serving.__main__.make_commands", lambda options: dict.fromkeys((ZOO,), FAKE)
    )
    main()
    assert "  3 clients, ours" in capsys.readouterr().out
    code, page = write_page()
    assert code == 0
    assert "### Serving EfficientNetLite0, jax " in page
    assert "python -m benchmarks.serving load --requests 12" in page
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("|")]
    assert lines[0][:3] == ["clients", "server", "requests a second"]
    assert [(line[0], line[1], *line[-2:]) for line in lines[2:]] == [
        ("1", "ours", "12", "0"),
        ("3", "ours", "12", "0"),
    ]


@pytest.mark.peer
def test_onnxruntime_names_the_same_classes(lite, examples):
    from benchmarks.serving.onnxruntime_server import OnnxruntimeClassifier

    photos = sorted(examples.glob("*.jpg"))
    peer = OnnxruntimeClassifier(lite, 8)
    rows = peer.probabilities(peer.preprocess(photos))
    expected = lite.classify(photos, top=1)
    for ranked, ((label, probability),) in zip(peer.rank_labels(rows, 1), expected, strict=True):
        assert ranked[0][0].name == label
        assert ranked[0][1] == pytest.approx(probability, rel=1e-3)
