"""`zoo onnx`: output, messages, exit codes."""

import json
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


def test_convert(shell, files, examples, tmp_path):
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\ne\n")
    saved = tmp_path / "saved"
    words = ("convert", files[0], "--out", saved, "--labels", tmp_path / "labels.txt")
    assert shell(*words) == (0, f"{saved}: OnnxClassifier(num_classes=5)\n", "")
    assert shell(*words)[0] == 1
    code, out, _ = shell(
        "classify", examples / "cat.jpg", "--model", "OnnxClassifier", "--weights", saved, "--json"
    )
    assert code == 0
    assert {each["label"] for each in json.loads(out)["classes"]} == set("abcde")
    code, out, _ = shell(
        "onnx", "export", "OnnxClassifier", tmp_path / "o.onnx", "--weights", saved
    )
    assert code == 0
    x = np.load(files[1])
    again, imported = from_onnx(tmp_path / "o.onnx"), from_onnx(files[0])
    np.testing.assert_array_equal(again(x), imported(x))


def test_convert_what_is_no_classifier(shell, tmp_path):
    model = make_model([node("Mul", "x w", "y")], ["x"], ["y"], {"w": np.float32([1, 2])})
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    code, out, _ = shell("convert", tmp_path / "m.onnx", "--out", tmp_path / "saved")
    assert code == 0
    assert "saved: zoo.from_onnx loads it, as it is no classifier: " in out
    x = np.float32([3, 4])
    np.testing.assert_array_equal(from_onnx(tmp_path / "saved")(x), [3, 8])


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--model", "ResNet50"), 2, "brings its own model: leave it out"),
        (("--num-classes", "3"), 2, "brings its own model: leave it out"),
        (("--labels", "{x}"), 1, "x.npy"),
        (("--labels", "{two}"), 1, "labels must have a name for each of 5 classes, got 2"),
    ],
)
def test_bad_words_of_convert(shell, files, tmp_path, words, code, message):
    (tmp_path / "two.txt").write_text("a\nb\n")
    words = [word.format(x=files[1], two=tmp_path / "two.txt") for word in words]
    found, _, err = shell("convert", files[0], "--out", tmp_path / "saved", *words)
    assert found == code
    assert message in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err
    assert not (tmp_path / "saved").exists()


def test_convert_needs_a_model_for_weights_alone(shell, tmp_path):
    (tmp_path / "m.pth").write_bytes(b"")
    code, _, err = shell("convert", tmp_path / "m.pth", "--out", tmp_path / "saved")
    assert code == 2
    assert "such as --model ResNet50" in " ".join(err.replace("│", " ").split())
