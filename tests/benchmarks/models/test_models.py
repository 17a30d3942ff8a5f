"""The benchmark of models and layers: options, costs of a workload, and whole runs."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks.models import cases, workers
from benchmarks.models.__main__ import parse_arguments
from benchmarks.models.cases import Workload
from benchmarks.models.layers import LAYERS
from benchmarks.models.run import make_commands, measure, select_workloads
from benchmarks.report import records
from tests.zoo.runtime.test_memory import GLIBC

LAYER = "Conv 3x3, stride 2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batches", "8,0"], "'0'"),
        (["--dtypes", "float16"], "float32 or bfloat16, got 'float16'"),
        (["--peers", "tensorflow"], "got 'tensorflow'"),
        (["--rounds", "many"], "'many'"),
        (["--passes", "backward"], "'backward'"),
    ],
)
def test_bad_options(arguments, message, capsys):
    with pytest.raises(SystemExit):
        parse_arguments(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--models", "Perceptron"], ["--layers", "Softmax"]])
def test_unknown_names(arguments):
    with pytest.raises(SystemExit, match=arguments[1]):
        select_workloads(parse_arguments(arguments))


def test_selected_workloads():
    options = parse_arguments(["--models", "mobilenetv2,Xception", "--batches", "1,8"])
    workloads = select_workloads(options)
    assert len(workloads) == 2 * 2 * len(cases.PASSES)
    sizes = {(each.model, each.size) for each in workloads}
    assert sizes == {("MobileNetV2", 224), ("Xception", 299)}
    layers = select_workloads(parse_arguments(["--layers"]))
    assert len(layers) == len(LAYERS) * 3 * 2  # batches 1, 16 and 64
    assert [Workload.decode(each.encode()) for each in layers] == layers


def test_candidates_run_under_their_python():
    peers = "onnxruntime,compiled,torch,flax"
    options = parse_arguments(["--peers", peers, "--jax-python", "other-python"])
    pythons = {name: command[0] for name, command in make_commands(options).items()}
    own = dict.fromkeys(("onnxruntime", "torch"), sys.executable)
    assert pythons == dict.fromkeys(("ours", "ours, compiled", "flax"), "other-python") | own


def test_costs_of_a_layer():
    """A 3x3 convolution from 56x56x64 to 28x28x64 with a bias."""
    inference = Workload(LAYER, cases.INFERENCE, 2, 56)
    operations, moved = (
        2 * 2 * 28 * 28 * 64 * 9 * 64,
        4 * (2 * (56**2 + 28**2) * 64 + 9 * 64**2 + 64),
    )
    assert cases.count_costs(inference) == [(operations, moved)]
    forward_backward = inference._replace(pass_name=cases.FORWARD_BACKWARD)
    assert cases.count_costs(forward_backward) == [(3 * operations, 3 * moved)]
    assert cases.least_seconds([(2.0, 3.0), (4.0, 1.0)], rate=2.0, bandwidth=1.0) == 3 + 2


def test_costs_of_a_model():
    """Two operations for each of the published multiply-adds; more for training."""
    workload = Workload("MobileNetV2", cases.FUSED_INFERENCE, 4, 224)
    costs = cases.count_costs(workload)
    operations = sum(operations for operations, _ in costs)
    assert operations == pytest.approx(2 * 4 * 0.301e9, rel=2e-3)
    moved = sum(moved for _, moved in costs)
    # Its 3.5 million parameters once, and activations, of which these are some.
    assert moved > 4 * 3.5e6 + 4 * 4 * 112 * 112 * (32 + 96)
    step = cases.count_costs(workload._replace(pass_name=cases.TRAINING_STEP))
    assert sum(operations for operations, _ in step) == 3 * operations


@pytest.mark.peer
@pytest.mark.parametrize("name", LAYERS)
def test_layers_compute_the_same_as_pytorch(name):
    import torch

    layer = LAYERS[name]
    x = np.random.default_rng(0).normal(size=(2, *layer.shape)).astype(np.float32)
    ours, theirs = layer.ours("float32"), layer.torch(torch.nn).eval()
    variables = ours.init(jax.random.key(0), x)
    params = {leaf: np.array(array) for leaf, array in variables.get("params", {}).items()}
    with torch.no_grad():
        if "kernel" in params:
            kernel = params["kernel"]
            order = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
            theirs.weight.copy_(torch.from_numpy(kernel.transpose(order)))
            theirs.bias.copy_(torch.from_numpy(params["bias"]))
        images = torch.from_numpy(x.transpose(0, 3, 1, 2) if x.ndim == 4 else x)
        expected = theirs(images).numpy()
    expected = expected.transpose(0, 2, 3, 1) if expected.ndim == 4 else expected
    # Sums of up to 1600 products in another order.
    np.testing.assert_allclose(ours.apply(variables, x), expected, rtol=1e-4, atol=1e-5)


def run(root, file, *arguments):
    """Runs the benchmark; returns its record and its output."""
    command = [sys.executable, "-m", "benchmarks.models", *arguments, "--rounds", "2"]
    done = subprocess.run(
        [*command, "--json", str(file)], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return records.read_record(file), done.stdout


@pytest.mark.slow
def test_models_run(root, tmp_path):
    peers = {"flax": "flax", **({"keep-memory": "ours, memory kept"} if GLIBC else {})}
    small = ["--size", "32", "--batches", "2", "--peers", ",".join(peers)]
    passes = ["--passes", cases.FUSED_INFERENCE, cases.TRAINING_STEP]
    record, output = run(root, tmp_path / "m.json", "--models", "SqueezeNet1_1", *small, *passes)
    assert record.kind == "models"
    assert [row["pass"] for row in record.rows] == passes[1:]
    names = {"ours", *peers.values()}
    for row in record.rows:
        assert set(row["seconds"]) == set(row["peak"]) == set(row["compile"]) == names
        assert not row["refusals"]
        assert row["limit"] > 0
        assert min(row["compile"].values()) > 0
    assert "SqueezeNet1_1, training step, N2" in output
    assert str(tmp_path) not in json.dumps(record.content)


@pytest.mark.slow
def test_layers_run(root, tmp_path):
    record, _ = run(root, tmp_path / "layers.json", "--layers", "--batches", "1", "--peers", "")
    assert record.kind == "layers"
    assert [row["model"] for row in record.rows] == [
        name for name in LAYERS for _ in cases.LAYER_PASSES
    ]
    for row in record.rows:
        assert not row["refusals"]
        assert set(row["seconds"]) == {"ours"}


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("onnxruntime", {"pass_name": cases.LOSS_GRADIENT}, "inference"),
        ("onnxruntime", {"model": LAYER}, "whole models"),
        ("onnxruntime", {"dtype": "bfloat16"}, "float32"),
        ("ours, compiled", {"pass_name": cases.INFERENCE}, "folds the norms"),
    ],
)
def test_what_deployed_models_refuse(name, change, reason):
    workload = Workload("MobileNetV2", cases.FUSED_INFERENCE, 1, 224)
    workers.check_deployed(name, workload, "cpu")
    with pytest.raises(NotImplementedError, match=reason):
        workers.check_deployed(name, workload._replace(**change), "cpu")
    with pytest.raises(NotImplementedError, match="a CPU"):
        workers.check_deployed(name, workload, "cuda")


@pytest.mark.peer
def test_a_model_runs_beside_onnxruntime(root, monkeypatch):
    pytest.importorskip("onnxruntime", reason="the extra `peers` has it")
    monkeypatch.chdir(root)
    options = parse_arguments(["--peers", "onnxruntime,compiled", "--rounds", "2"])
    workload = Workload("SqueezeNet1_1", cases.FUSED_INFERENCE, 2, 32)
    row, versions = measure(workload, options, rate=1e11, bandwidth=1e10)
    names = {"ours", "ours, compiled", "onnxruntime"}
    assert set(row["seconds"]) == set(row["compile"]) == names
    assert set(row["peak"]) == names - {"ours, compiled"}
    assert set(versions["onnxruntime"]) == {"onnxruntime", "python"}


@pytest.mark.peer
def test_models_and_layers_run_beside_pytorch(root, tmp_path):
    arguments = ["--layers", "*atch*orm", "--batches", "2", "--peers", "flax,torch"]
    record, _ = run(root, tmp_path / "layers.json", *arguments)
    assert [row["pass"] for row in record.rows] == list(cases.LAYER_PASSES)
    assert all({"ours", "flax", "torch"} == set(row["seconds"]) for row in record.rows)
    arguments = ["--models", "SqueezeNet1_1", "--size", "32", "--batches", "2", "--peers", "torch"]
    record, _ = run(root, tmp_path / "models.json", *arguments)
    assert [row["pass"] for row in record.rows] == list(cases.PASSES)
    assert all({"ours", "torch"} == set(row["seconds"]) for row in record.rows)
