"""Every notebook runs from its first cell to its last, and shows what its text promises."""

import re

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

pytestmark = pytest.mark.notebook


def outputs(name, **arguments):
    """Executes a notebook as its reader would; → all that its cells show, as text.

    `arguments` are shorter ones for calls in its cells, such as epochs=1, in place of all others.
    """
    notebook = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    for argument, value in arguments.items():
        pattern, found = re.compile(rf"\b{argument}=[\d.e-]+"), 0
        for cell in notebook.cells:
            cell.source, count = pattern.subn(f"{argument}={value}", cell.source)
            found += count
        assert found, f"{name} has no {argument}"
    NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(ROOT / "notebooks")}}
    ).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    streams = [output.text for output in shown if output.output_type == "stream"]
    data = [output.data for output in shown if "data" in output]
    return "\n".join([*streams, *(str(d) for d in data)])


def test_quickstart():
    text = outputs("quickstart.ipynb")
    assert "tiger cat" in text
    assert "stage7" in text
    assert "4,652,008" in text  # parameters, in the table of the model
    assert "(3, 28, 28, 40)" in text  # the features of stage3
    assert text.count("image/png") == 3
    assert re.search(r"'compiled': '\d+\.\d ms'", text)
    accuracy = int(text.partition("not trained on: ")[2].partition("%")[0])
    assert accuracy >= 80  # chance is 33


def test_operators():
    text = outputs("operators.ipynb")
    assert "every pass is faster: True" in text
    assert text.count("image/png") == 2  # the measurements on the oldest and the newest jax
    assert re.search("weight_grad +cpu: .*gemm", text)
    assert "gradients of both orders agree" in text


def test_models():
    text = outputs("models.ipynb")
    assert text.count("image/png") == 2  # the zoo at a glance, and maps along the way
    assert "25,557,032" in text  # parameters, in the table of ResNet-50
    assert "8 (2, 8, 12, 512)" in text  # the last stage at output stride 8
    assert "the same: True" in text
    assert "32: (1, 7, 7, 320)" in text  # the backbone's last map
    difference = float(text.partition("logits differ by ")[2].split()[0])
    assert difference < 1e-3


def test_weights():
    text = outputs("weights.ipynb")
    assert "bit for bit the same: True" in text
    assert "blocks.0.0.attention.weight: no rule maps it" in text
    assert "the same features: True (1, 3, 3, 256)" in text
    assert "with a new classifier: (1, 4)" in text
    assert text.count("image/png") == 1  # what is named with kernels either way round
    assert "xray_v1 finding 3 cache" in text
    assert "params.stem.conv.kernel/0.0.0.0' was changed" in text
    assert "xray_v1 is back" in text


def test_benchmarks():
    text = outputs("benchmarks.ipynb")
    assert text.count("image/png") == 2  # the models on the oldest and the newest jax
    assert text.count("images a second") == 3
    assert "faster than XLA's: True" in text
    assert "waiting is hidden: True" in text


def test_fine_tune():
    """Cut short: how well a model learns the digits is tested where trainings are."""
    text = outputs("fine_tune.ipynb", epochs=0.3, head_epochs=0.1)
    assert "1433 images for training, 364 for validation" in text
    assert text.count("image/png") == 4  # digits, curves, confusion and mistakes
    accuracies = [float(number) for number in re.findall(r"'text/plain': '\(?([\d.]+)", text)]
    assert len(accuracies) == 2  # of the probe and of the fine-tuned model
    assert min(accuracies) > 0.15  # chance is 0.1


def test_mura():
    """Cut short, too."""
    text = outputs("mura.ipynb", patients=80, epochs=1)
    assert re.search(r"train: \d+ images, \d+ studies, 64 patients", text)
    assert re.search(r"all +\d+ +0\.\d+ \(0\.\d+–", text)  # AUROC with its interval
    assert text.count("image/png") == 3  # X-rays, probabilities, and what was told worst


def test_visualize():
    """Cut short."""
    text = outputs("visualize.ipynb", steps=4, masks=20)
    assert text.count("image/jpeg") == 12
    areas = [float(area) for area in re.findall(r"area under the curve, .*: +([\d.]+)", text)]
    assert len(areas) == 2
    assert areas[0] < areas[1]
    likeness = re.search(r"'head': ([-\d.]+),.* 'stem': ([-\d.]+)", text)
    assert float(likeness[2]) < float(likeness[1])  # the last layer's weights are drawn again first


def test_dream():
    """Cut short."""
    text = outputs("dream.ipynb", steps=1, size=192, frames=12)
    assert text.count("image/jpeg") == 5


def test_style():
    text = outputs("style.ipynb", steps=8, size=64)
    assert "'mosaic', 'stars', 'ink', 'waves'" in text
    assert text.count("image/jpeg") == 8  # pictures show themselves
    assert "step 8: held-out loss" in text
    assert "'metrics.jsonl', 'model', 'previews'" in text
    assert "True" in text  # the checkpoint paints as the network in memory does


def test_onnx():
    """Trained for one epoch in place of six."""
    text = outputs("onnx.ipynb", epochs=1)
    assert "('BatchNormalization', 'stem/norm')" in text
    assert "input   images: float32 [N, 3, 224, 224]" in text
    assert text.count("'tiger cat'") == 2  # from the imported logits, and from the zoo's model
    error = float(re.search(r"'tabby'\], ([\d.e-]+)\)", text)[1])
    assert error < 1e-4  # of logits of up to 7
    assert text.count("image/jpeg") == 1  # the map of Grad-CAM
    assert text.count("'zero'") + text.count("'one'") == 10 + 2  # classes of images, and labels
    error = float(re.search(r"\('zero', 'one'\), ([\d.e-]+)\)", text)[1])
    assert error < 1e-4  # of what was saved, exported and imported again


def test_detection():
    """Trained for one epoch on few images: how well it learns is tested where trainings are."""
    text = outputs("detection.ipynb", epochs=1, count=48)
    assert "48 images for training, 48 held out" in text
    assert "SSDLite320_MobileNetV3_Large, image 320×320×3" in text
    assert re.search(r"average precision +0\.50 +all +100 +\d\.\d{4}\n", text)
    for shape in ("circle", "square", "triangle", "star"):
        assert text.count(f"'{shape}': ") == 2  # boxes, and average precision
    assert "'extra2': (2, 2, 256)" in text
    assert text.count("image/png") == 1  # the curves
    assert text.count("image/jpeg") == 4  # images, what was found, maps, and where the heads see it
    assert "True" in text.splitlines()[-1]  # the loaded detector finds the same


def test_every_notebook_is_tested():
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert {f"test_{name}" for name in notebooks} <= globals().keys()
