"""The benchmark of scaling: fitted growth, options, and a whole run on simulated devices."""

import json
import subprocess
import sys

import pytest

from benchmarks.models import scaling
from benchmarks.report import records


def row(axis, value, **seconds):
    timings = {n: {"median": s, "lower": s, "upper": s} for n, s in seconds.items()}
    fixed = {"batch": 1, "size": 8, "devices": 1, axis: value}
    return {
        "model": "M", "pass": "training step", "axis": axis, "value": value, **fixed,
        "seconds": timings, "refusals": {},
    }  # fmt: skip


def test_exponents_and_marginal_costs():
    rows = [row("size", n, ours=3e-6 * n**2, torch=1e-5 * n) for n in (8, 16, 24)]
    rows += [row("batch", n, ours=0.5 + 0.25 * n) for n in (1, 2, 4)]
    rows += [row("devices", n, ours=0.1) for n in (1, 2)]
    fitted = scaling.fit_growth(rows)
    assert fitted[0]["exponent"] == pytest.approx({"ours": 2, "torch": 1})
    assert fitted[0]["marginal"] == {}
    assert fitted[3]["marginal"] == pytest.approx({"ours": 0.25})
    assert fitted[6]["exponent"] == pytest.approx({"ours": 0}, abs=1e-9)
    lines = list(scaling.describe_growth(fitted))
    assert "M, training step, ours: time grows as size^2.00" in lines
    assert lines[2].endswith(", 250.00 ms an extra image")


def test_one_value_has_no_slope():
    (fitted,) = scaling.fit_growth([row("batch", 4, ours=1.0)])
    assert fitted["exponent"] == fitted["marginal"] == {}
    assert list(scaling.describe_growth([fitted])) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--devices", "3"], "a batch of 8 cannot be divided by 3"),
        (["--batches", "0,1"], "--batches"),
        (["--peers", "tensorflow"], "'tensorflow'"),
        (["--size", "0"], "at least 1"),
    ],
)
def test_bad_options(arguments, message, capsys):
    with pytest.raises(SystemExit):
        scaling.parse_arguments(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_run(root, tmp_path):
    file = tmp_path / "scaling.json"
    arguments = ["--models", "SqueezeNet1_1", "--batches", "1,2", "--sizes", "", "--devices", "2"]
    arguments += ["--batch", "2", "--size", "32", "--rounds", "3", "--json", str(file)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.models.scaling", *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    content = json.loads(file.read_text())
    assert str(tmp_path) not in file.read_text()
    assert records.read_record(file).kind == "scaling"
    points = [(r["axis"], r["value"]) for r in content["rows"] if r["pass"] == "training step"]
    assert points == [("batch", 1), ("batch", 2), ("devices", 2)]
    assert all("ours" in r["seconds"] and not r["refusals"] for r in content["rows"])
    assert "jax" in content["versions"]["ours"]
