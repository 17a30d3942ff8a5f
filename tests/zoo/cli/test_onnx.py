"""`zoo onnx`: output, messages, exit codes."""

import sys

import numpy as np
import pytest

from tests.zoo.cli.shell import runner
from tests.zoo.onnx.small import convnet, make_model, node, serialize
from zoo.onnx import from_onnx


@pytest.fixture
def shell(monkeypatch, capfd):
    return runner(monkeypatch, capfd)


@pytest.fixture
def files(tmp_path):
    """A model, and an input for it."""
    (tmp_path / "m.onnx").write_bytes(serialize(convnet()))
    np.save(tmp_path / "x.npy", np.float32(np.random.default_rng(0).normal(size=(2, 3, 8, 8))))
    return tmp_path / "m.onnx", tmp_path / "x.npy"


def test_describe(shell, files):
    code, out, err = shell("onnx", "describe", files[0])
    assert (code, err) == (0, "")
    assert "  input   images: float32 [N, 3, 8, 8]\n" in out
    assert "fc/weight" not in out
    code, out, _ = shell("onnx", "describe", files[0], "--parameters")
    assert "  params/fc/weight  float32[5, 64]\n" in out


@pytest.mark.parametrize("prefix", ["", "images="])
def test_run(shell, files, tmp_path, prefix):
    model, x = files
    code, out, _ = shell(
        "onnx", "run", model, "--input", f"{prefix}{x}", "--out", tmp_path / "y.npz"
    )
    assert code == 0
    assert out.startswith("logits: float32[2, 5], from ")
    want = from_onnx(model)(np.load(x))
    np.testing.assert_allclose(np.load(tmp_path / "y.npz")["logits"], want, rtol=1e-5, atol=1e-6)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".npz"] == ["y.npz"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "the model also needs images: float32 [N, 3, 8, 8]"),
        (("--input", "y={x}"), 2, "expected NAME=FILE with one of the names images, got 'y="),
        (("--input", "{model}"), 1, "m.onnx: expected an array of NumPy (.npy)"),
        (("--input", "{x}", "--out", "y.txt"), 2, "expected a name that ends in .npz, got y.txt"),
        (("--input", "nothing.npy"), 1, "nothing.npy: No such file"),
    ],
)
def test_bad_words(shell, files, words, code, message):
    model, x = files
    found, out, err = shell("onnx", "run", model, *(w.format(x=x, model=model) for w in words))
    assert (found, out) == (code, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_file_that_is_no_model(shell, files):
    code, _, err = shell("onnx", "describe", files[1])
    assert code == 1
    assert "x.npy: no ONNX model" in err
    code, _, err = shell("onnx", "describe", files[1].with_name("nothing.onnx"))
    assert (code, "nothing.onnx: No such file" in err) == (1, True)


def test_an_input_of_another_shape(shell, files, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 8, 9), np.float32))
    code, _, err = shell("onnx", "run", files[0], "--input", files[1])
    assert code == 1
    assert "the input images: float32 [N, 3, 8, 8] cannot be of the shape [2, 3, 8, 9]" in err


def test_operators_that_are_not_there(shell, tmp_path):
    model = make_model([node("GRU", "x", "y", hidden_size=2)], ["x"], ["y"])
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    code, _, err = shell("onnx", "describe", tmp_path / "m.onnx")
    assert (code, "operators that are not there: GRU (version 21)" in err) == (1, True)


def test_export(shell, tmp_path):
    """What it writes comes back, and is not replaced unless told."""
    out = tmp_path / "lite.onnx"
    words = ("onnx", "export", "EfficientNetLite0", out, "--size", 64)
    code, printed, _ = shell(*words)
    assert (code, printed) == (0, f"{out}: {out.stat().st_size / 1e6:.1f} MB\n")
    plain = from_onnx(out)
    assert plain.inputs[0].shape == ("N", 3, 64, 64)
    assert "batch_stats" in plain.variables
    code, _, err = shell(*words, "--fused")
    assert (code, err) == (1, f"zoo: {out} is there already\n")
    code, _, _ = shell(*words, "--fused", "--overwrite")
    assert code == 0
    assert "batch_stats" not in from_onnx(out).variables
    code, _, err = shell("onnx", "export", "EfficientNetLite0", tmp_path / "lite.txt")
    assert (code, "expected a name that ends in .onnx" in err) == (2, True)


def test_without_the_package_onnx(shell, files, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    code, out, err = shell("onnx", "describe", files[0])
    message = "onnx is not installed; pip install 'jax-zoo[onnx]' brings it"
    assert (code, out, err) == (1, "", f"zoo: {message}\n")
