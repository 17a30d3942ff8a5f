"""`zoo bench`: its table, its JSON, its options and its errors."""

import json

import pytest

from tests.zoo.cli.shell import runner
from zoo.runtime import bench

MEASUREMENT = bench.Measurement(
    "Small", "training step", 8, 64, "float32", "cpu", (0.01, 0.02, 0.03), 1.5, 3_000_000,
    200_000_000, 50e9,
)  # fmt: skip


@pytest.fixture
def shell(monkeypatch, capfd):
    def measure(model, **options):
        if model != "Small":
            return bench.measure(model, **options)
        options_given.append(options)
        return iter([MEASUREMENT])

    options_given = []
    monkeypatch.setattr("zoo.cli.bench.measure", measure)
    run = runner(monkeypatch, capfd)
    return lambda *words: (*run("bench", *words), options_given)


def test_a_table(shell):
    code, out, err, options_given = shell("Small")
    assert (code, err) == (0, "")
    first, heading, line = out.splitlines()
    assert first == "Small, batch 8, 64×64, float32, on cpu; a matrix product reaches 50 GFLOP/s"
    assert heading.split()[:3] == ["images/s", "ms", "quartiles"]
    cells = [
        "training step",
        "400.0",
        "20.00",
        "15.00 to 25.00",
        "10.0",
        "20%",
        "1.5",
        "3.0 MB",
    ]
    assert [cell.strip() for cell in line.split("  ") if cell] == cells
    assert options_given[0]["passes"] == list(bench.PASSES)


def test_json(shell):
    printed = json.loads(shell("Small", "--json")[1])
    assert printed["pass"] == "training step"
    assert printed["seconds"] == pytest.approx({"median": 0.02, "lower": 0.015, "upper": 0.025})


@pytest.mark.parametrize(
    ("words", "passes"),
    [
        (["--pass", "inference"], bench.PASSES[:2]),
        (["--pass", "training"], bench.PASSES[2:]),
        (["--fused"], bench.PASSES[1:]),
        (["--plain", "--pass", "inference"], bench.PASSES[:1]),
    ],
)
def test_options_choose_the_passes(shell, words, passes):
    assert shell("Small", *words)[3][0]["passes"] == list(passes)


@pytest.mark.parametrize("supported", [True, False])
def test_keep_memory_is_called_only_on_request(shell, monkeypatch, supported):
    calls = []
    monkeypatch.setattr("zoo.cli.bench.keep_memory", lambda: calls.append("called") or supported)
    assert shell("Small")[0] == 0
    assert not calls
    code, out, err, _ = shell("Small", "--keep-memory")
    assert calls == ["called"]
    assert code == (0 if supported else 2)
    assert bool(out) == supported
    assert ("--keep-memory" in err) != supported


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["SqueezeNet"], 1, "did you mean SqueezeNet1_1"),
        (["SqueezeNet1_1", "--size", "3"], 2, "at least"),
        (["SqueezeNet1_1", "--batch", "0"], 2, "--batch"),
        (["SqueezeNet1_1", "--rounds", "1"], 2, "--rounds"),
        (["SqueezeNet1_1", "--dtype", "int8"], 2, "--dtype"),
    ],
)
def test_errors(shell, words, code, message):
    got, out, err, _ = shell(*words)
    assert (got, out) == (code, "")
    assert message in err
