"""The timing of models and layers: what is asked for, what it costs at least, and whole runs."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks.models import __main__ as models
from benchmarks.models import cases as model_cases
from benchmarks.models.cases import Case
from benchmarks.models.layers import LAYERS
from benchmarks.report import records
from tests.zoo.runtime.test_memory import GLIBC

LAYER = "Conv 3x3, stride 2"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batches", "8,0"], "'0'"),
        (["--dtypes", "float16"], "float32 or bfloat16, got 'float16'"),
        (["--peers", "tensorflow"], "got 'tensorflow'"),
        (["--rounds", "many"], "'many'"),
        (["--passes", "backward"], "'backward'"),
    ],
)
def test_bad_options(words, message, capsys):
    with pytest.raises(SystemExit):
        models._options(words)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--models", "Perceptron"], ["--layers", "Softmax"]])
def test_unknown_names(words):
    with pytest.raises(SystemExit, match=words[1]):
        models.chosen(models._options(words))


def test_what_is_chosen():
    cases = models.chosen(models._options(["--models", "mobilenetv2,Xception", "--batches", "1,8"]))
    assert len(cases) == 2 * 2 * len(model_cases.PASSES)
    assert {(case.model, case.size) for case in cases} == {("MobileNetV2", 224), ("Xception", 299)}
    layers = models.chosen(models._options(["--layers"]))
    assert len(layers) == len(LAYERS) * 3 * 2  # batches 1, 16 and 64
    assert [model_cases.find(case.job) for case in layers] == layers


def test_the_least_that_a_layer_costs():
    """A 3x3 convolution from 56x56x64 to 28x28x64 with a bias."""
    inference = Case(LAYER, model_cases.INFERENCE, 2, 56)
    operations, moved = (
        2 * 2 * 28 * 28 * 64 * 9 * 64,
        4 * (2 * (56**2 + 28**2) * 64 + 9 * 64**2 + 64),
    )
    assert model_cases.costs(inference) == [(operations, moved)]
    both = inference._replace(pass_=model_cases.BOTH)
    assert model_cases.costs(both) == [(3 * operations, 3 * moved)]
    assert model_cases.limit([(2.0, 3.0), (4.0, 1.0)], rate=2.0, bandwidth=1.0) == 3 + 2


def test_the_least_that_a_model_costs():
    """Two operations for each of the published multiply-adds; more for training."""
    case = Case("MobileNetV2", model_cases.FUSED, 4, 224)
    costs = model_cases.costs(case)
    operations = sum(operations for operations, _ in costs)
    assert operations == pytest.approx(2 * 4 * 0.301e9, rel=2e-3)
    moved = sum(moved for _, moved in costs)
    # Its 3.5 million parameters once, and an activation of each layer at least.
    assert moved > 4 * 3.5e6 + 4 * 4 * 112 * 112 * (32 + 96)
    step = model_cases.costs(case._replace(pass_=model_cases.STEP))
    assert sum(operations for operations, _ in step) == 3 * operations


@pytest.mark.peer
@pytest.mark.parametrize("name", LAYERS)
def test_layers_compute_what_pytorch_does(name):
    import torch

    layer = LAYERS[name]
    x = np.random.default_rng(0).normal(size=(2, *layer.shape)).astype(np.float32)
    ours, theirs = layer.ours("float32"), layer.torch(torch.nn).eval()
    variables = ours.init(jax.random.key(0), x)
    given = {leaf: np.array(array) for leaf, array in variables.get("params", {}).items()}
    with torch.no_grad():
        if "kernel" in given:
            kernel = given["kernel"]
            order = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
            theirs.weight.copy_(torch.from_numpy(kernel.transpose(order)))
            theirs.bias.copy_(torch.from_numpy(given["bias"]))
        images = torch.from_numpy(x.transpose(0, 3, 1, 2) if x.ndim == 4 else x)
        want = theirs(images).numpy()
    want = want.transpose(0, 2, 3, 1) if want.ndim == 4 else want
    # Sums of up to 1600 products in another order.
    np.testing.assert_allclose(ours.apply(variables, x), want, rtol=1e-4, atol=1e-5)


def run(root, file, *words):
    """A whole run's file."""
    command = [sys.executable, "-m", "benchmarks.models", *words, "--rounds", "2"]
    done = subprocess.run(
        [*command, "--json", str(file)], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return records.read(file), done.stdout


@pytest.mark.slow
def test_runs(root, tmp_path):
    peers = {"flax": "flax", **({"kept": "ours, memory kept"} if GLIBC else {})}
    small = ["--size", "32", "--batches", "2", "--peers", ",".join(peers)]
    passes = ["--passes", model_cases.FUSED, model_cases.STEP]
    record, told = run(root, tmp_path / "m.json", "--models", "SqueezeNet1_1", *small, *passes)
    assert record.kind == "models"
    assert [row["pass"] for row in record.rows] == passes[1:]
    names = {"ours", *peers.values()}
    for row in record.rows:
        assert set(row["seconds"]) == set(row["peak"]) == set(row["compile"]) == names
        assert not row["refusals"]
        assert row["limit"] > 0
        assert min(row["compile"].values()) > 0
    assert "SqueezeNet1_1, training step, N2" in told
    assert str(tmp_path) not in json.dumps(record.told)


@pytest.mark.slow
def test_layers_run(root, tmp_path):
    record, _ = run(root, tmp_path / "layers.json", "--layers", "--batches", "1", "--peers", "")
    assert record.kind == "layers"
    assert [row["model"] for row in record.rows] == [
        name for name in LAYERS for _ in model_cases.LAYER_PASSES
    ]
    for row in record.rows:
        assert not row["refusals"]
        assert set(row["seconds"]) == {"ours"}


@pytest.mark.peer
def test_runs_beside_pytorch(root, tmp_path):
    words = ["--layers", "*atch*orm", "--batches", "2", "--peers", "flax,torch"]
    record, _ = run(root, tmp_path / "layers.json", *words)
    assert [row["pass"] for row in record.rows] == list(model_cases.LAYER_PASSES)
    assert all({"ours", "flax", "torch"} == set(row["seconds"]) for row in record.rows)
    words = ["--models", "SqueezeNet1_1", "--size", "32", "--batches", "2", "--peers", "torch"]
    record, _ = run(root, tmp_path / "models.json", *words)
    assert [row["pass"] for row in record.rows] == list(model_cases.PASSES)
    assert all({"ours", "torch"} == set(row["seconds"]) for row in record.rows)
