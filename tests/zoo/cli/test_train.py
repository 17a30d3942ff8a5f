"""`zoo train` and `zoo evaluate`: output, messages, exit codes."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.zoo.cli.shell import runner

TINY = ("--model", "MobileNetV1", "--argument", "width=0.25", "--argument", "norm_momentum=0.5")
SCRATCH = ("--scratch", *TINY, "--channels", 1, "--batch-size", 8, "--size", 32)


@pytest.fixture
def shell(monkeypatch, capfd):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    return runner(monkeypatch, capfd)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes that are easily told apart: dark and bright."""
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name, mean in (("dark", 60), ("bright", 190)):
        (folder / name).mkdir()
        for number in range(20):
            pixels = np.clip(random.normal(mean, 30, (16, 16)), 0, 255)
            Image.fromarray(np.uint8(pixels)).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.slow
def test_training_evaluating_classifying_and_publishing(shell, photos, tmp_path):
    out = tmp_path / "a"
    options = ("--epochs", 12, "--rate", 0.05, "--out", out, "--workers", 0)
    words = ("train", photos, *SCRATCH, *options)
    code, printed, err = shell(*words)
    assert code == 0, err
    assert f"zoo classify PHOTO --model MobileNetV1 --weights {out / 'model'}" in printed
    assert "compiling the training step" in err
    assert "epoch 12" in err
    assert {file.name for file in out.iterdir()} >= {"model", "states", "report.html", "run.json"}

    # The run is complete: the same command only says so, and the model is the same.
    before = (out / "model" / "SHA256SUMS").read_bytes()
    code, printed, err = shell(*words)
    assert code == 0, err
    assert "this run is complete" in err
    assert (out / "model" / "SHA256SUMS").read_bytes() == before

    weights = ("--model", "MobileNetV1", "--weights", out / "model")
    code, printed, err = shell("evaluate", photos, *weights, "--json", "--workers", 0)
    assert code == 0, err
    summary = json.loads(printed)
    assert summary["images"] == 40
    assert summary["top1"] > 0.9
    assert np.sum(summary["confusion"]) == 40
    assert summary["published_top1"] is None

    code, printed, err = shell("evaluate", photos, *weights, *weights[2:], "--workers", 0)
    assert code == 0, err
    assert re.search(r"top-1 accuracy +\d+\.\d %", printed)
    assert re.search(r"0 bright.*1 dark", printed, re.DOTALL)

    code, printed, err = shell("classify", photos / "dark", *weights, "--top", 1, "--json")
    assert code == 0, err
    names = [json.loads(line)["classes"][0]["label"] for line in printed.splitlines()]
    assert names.count("dark") >= 18

    assert shell("publish", out / "model", "--to", tmp_path / "store")[0] == 0
    (card,) = (tmp_path / "store").glob("*.md")
    text = card.read_text()
    assert "2 classes: bright, dark" in text
    assert "- images: 32" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "nothing-there"], "there is no data set 'nothing-there'"),
        (["train", "digits", "--set", "flip"], "there is no '='"),
        (["train", "digits", "--set", "flop=1"], "there is no setting 'flop'; did you mean"),
        (["train", "digits", "--set", "flip=2"], "flip must be at least 0 and at most 1, got 2"),
        (["train", "digits", "--epochs", 0], "epochs must be more than 0"),
        (["train", "digits", "--recipe", "mine"], "--recipe must be one of cifar10, detection"),
        (["train", "digits", "--recipe", "mine.toml"], "mine.toml cannot be read: No such file"),
        (["train", "digits", "--model", "ResNet5"], "no model is named 'ResNet5'; did you mean"),
        (["train", "digits", "--argument", "width=1"], "goes with --scratch"),
        (["train", "digits", "--scratch", "--weights", "x"], "goes without --scratch"),
        (["train", "digits", *TINY[:2], "--scratch", "--argument", "widht=1"], "did you mean wi"),
        (["train", "mura"], "mura needs folder"),
        (["train", "digits", "--set", 'freeze="stem"'], "freeze must be a list of strings"),
        (["train", "digits", "--set", "freeze=stam"], "'stam' matches no module of the model"),
        (["train", "digits", "--size", 8, "--model", "VGG11", "--scratch"], "size must be at le"),
        (["evaluate", "digits"], "none of the classes is one of the model's"),
        (["evaluate", "digits", "--weights", "none"], "none"),
    ],
)
def test_wrong_command_lines_are_one_line(shell, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, printed, err = shell(*words)
    assert code in (1, 2)
    assert printed == ""
    assert message in err
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.rglob("states"))


def test_one_class_alone_and_an_empty_class(shell, photos, tmp_path):
    code, _, err = shell("train", photos / "dark")
    assert code == 1
    assert "dark" in err
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "a" / "1.png")
    code, _, err = shell("train", tmp_path)
    assert code == 1
    assert "b" in err


@pytest.mark.slow
def test_the_example_fine_tunes(root, photos, tmp_path):
    words = [photos, photos / "dark" / "0.png", "--epochs", "1", "--size", "32"]
    done = subprocess.run(
        [sys.executable, root / "examples" / "fine_tune.py", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy on the photos that were held out: " in done.stdout
    assert "0.png [('" in done.stdout
