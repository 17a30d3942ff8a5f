"""`zoo visualize`: pictures, messages, exit codes."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from tests.zoo.cli.shell import runner
from zoo import visualize
from zoo.visualize.pictures import GAP


@pytest.fixture
def shell(monkeypatch, capfd, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capfd)


def columns(path, side=64):
    """How many pictures of that side stand beside each other."""
    with Image.open(path) as image:
        return (image.width + GAP) / (side + GAP)


def test_methods_side_by_side(shell, examples, tmp_path):
    words = ("--method", "grad-cam,layer-cam", "--method", "eigen-cam", "--size", 64)
    code, out, err = shell(
        "visualize", examples / "cat.jpg", *words, "--target", "tabby", "--out", "a.png"
    )
    assert code == 0, err
    first, second = out.splitlines()
    assert first.startswith("tabby  ")
    assert second == "a.png"
    assert columns(tmp_path / "a.png") == 4


def test_default_name_and_several_classes(shell, examples, tmp_path):
    code, out, err = shell("visualize", examples / "cat.jpg", "--top", 2, "--size", 64)
    assert code == 0, err
    assert out.splitlines()[-1] == "cat-grad-cam.png"
    assert columns(tmp_path / "cat-grad-cam.png") == 3
    with Image.open(tmp_path / "cat-grad-cam.png") as image:
        assert image.height > 2 * 64


def test_the_picture_is_that_of_python(shell, lite, examples, tmp_path):
    code, _, err = shell("visualize", examples / "cat.jpg", "--size", 64, "--layer", "stage5")
    assert code == 0, err
    expected = visualize.grad_cam(lite, examples / "cat.jpg", size=64, layer="stage5").picture()
    with Image.open(tmp_path / "cat-grad-cam.png") as image:
        np.testing.assert_array_equal(np.asarray(image), expected.pixels)


def test_features(shell, tmp_path):
    words = ("--feature", "stage2:3", "--feature", "stage2:4", "--steps", 2, "--size", 64)
    code, out, err = shell("visualize", *words)
    assert code == 0, err
    assert out.strip() == "stage2-3-stage2-4.png"
    assert columns(tmp_path / out.strip()) == 2


def test_list(shell):
    code, out, _ = shell("visualize", "--list")
    assert code == 0
    assert all(f"  {name} " in out for name in visualize.METHODS)
    assert "stage7/block1/project" in out
    assert "7×7×1280" in out


def test_standard_input(shell, examples, tmp_path, monkeypatch):
    with (examples / "cat.jpg").open("rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        code, out, err = shell("visualize", "-", "--size", 64)
    assert code == 0, err
    assert out.splitlines()[-1] == "photo-grad-cam.png"


@pytest.fixture(scope="module")
def headless(lite, tmp_path_factory):
    """The embedded weights without their classifier."""
    params = {name: arrays for name, arrays in lite.variables["params"].items() if name != "head"}
    path = tmp_path_factory.mktemp("weights") / "headless"
    lite.replace(variables={**lite.variables, "params": params}).save(path)
    return path


CAT, HEADLESS = "CAT", "HEADLESS"


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        ((), 2, "give photos, or --feature or --list"),
        ((CAT, "--method", "gradcam"), 2, "no method is named 'gradcam'; did you mean grad-cam"),
        ((CAT, "--method", "grad-cam,"), 2, "no method is named ''"),
        ((CAT, "--layer", "stage"), 1, "has no layer 'stage'; did you mean stage"),
        ((CAT, "--layer", "head"), 1, "'head' of EfficientNetLite0 has no spatial extent"),
        ((CAT, "--target", "tabbi"), 1, "has no class 'tabbi'; did you mean tabby"),
        ((CAT, "--target", "1000"), 1, "from 0 to 999, got 1000"),
        ((CAT, "--method", "occlusion", "--layer", "stage4"), 2, "occlusion has a layer"),
        ((CAT, "--weights", HEADLESS), 1, "have no classifier"),
        (("--feature", "head:3", "--weights", HEADLESS), 1, "have no classifier"),
        ((CAT, "--target", "tabby", "--top", 2), 2, "--target excludes it"),
        ((CAT, "--top", 1001), 1, "from 1 to 1000, got 1001"),
        ((CAT, "--out", "a.gif"), 1, "a.gif must end in .png"),
        ((CAT, "--out", "none/a.png"), 1, "there is no folder none"),
        ((CAT, "--steps", 3), 2, "it is for --feature"),
        (("missing.jpg",), 1, "missing.jpg cannot be read"),
        ((CAT, "--model", "ResNet"), 1, "no model is named 'ResNet'"),
        ((CAT, "--feature", "stage2:3"), 2, "takes no PHOTOS"),
        (("--feature", "stage2:3", "--method", "rise"), 2, "takes no --method"),
        (("--feature", "stage2"), 1, "stage2"),
        (("--feature", "stage2:999"), 1, "999"),
        (("--feature", "stag:1"), 1, "did you mean"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    shell, examples, tmp_path, headless, words, exit_code, message
):
    places = {CAT: examples / "cat.jpg", HEADLESS: headless}
    given = [places.get(word, word) for word in words]
    code, out, err = shell("visualize", *given)
    assert (code, out) == (exit_code, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())
