"""`zoo dream`."""

import numpy as np
import pytest
from PIL import Image

from tests.zoo.cli.shell import runner

QUICK = ("--octaves", 1, "--steps", 1, "--size", 64, "--jitter", 0)


@pytest.fixture
def run(monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capfd)


def test_a_picture(run, examples, tmp_path):
    layers = ("--layer", "stage2", "--layer", "stage1=0.5")
    code, out, err = run("dream", examples / "cat.jpg", *layers, *QUICK)
    assert (code, out, err) == (0, "cat-dream.png\n", "")
    with Image.open("cat-dream.png") as image:
        assert image.size == (64, 43)
    # The options reach the dream: a larger step changes more.
    words = ("--step-size", 0.1, "--tv", 0.1, "--seed", 3, "--out", "b.png")
    assert run("dream", examples / "cat.jpg", *layers, *QUICK, *words)[0] == 0
    with Image.open(examples / "cat.jpg") as photo:
        small = np.float32(photo.resize((64, 43), Image.Resampling.LANCZOS))
    weak, strong = (
        np.abs(np.float32(Image.open(name)) - small).mean() for name in ("cat-dream.png", "b.png")
    )
    assert 1 < weak < 5
    assert strong > 3 * weak
    assert sorted(file.name for file in tmp_path.iterdir()) == ["b.png", "cat-dream.png"]


def test_a_video_with_a_guide(run, examples):
    words = ("--layer", "stage2", "--guide", examples / "espresso.jpg", "--out", "a.gif")
    code, out, _ = run("dream", examples / "cat.jpg", *words, *QUICK, "--zoom-frames", 2)
    assert (code, out) == (0, "a.gif\n")
    with Image.open("a.gif") as image:
        assert image.n_frames == 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--out", "a.mp4"), 2, "a.mp4 is a video; give --zoom-frames too"),
        (("--out", "a.png", "--zoom-frames", 2), 2, "a.png is a picture"),
        (("--out", "a.avi"), 1, "must end in .png"),
        (("--out", "a", "--zoom-frames", 2), 1, "must end in .mp4, .gif"),
        (("--out", "nowhere/a.png"), 1, "there is no folder"),
        (("--zoom", 1.1), 2, "--zoom-frames too"),
        (("--fps", 3), 2, "--zoom-frames too"),
        (("--layer", "stage2=much"), 2, "must be PATH or PATH=WEIGHT"),
        (("--octaves", 0), 2, "--octaves"),
        (("--steps", 0), 2, "--steps"),
        (("--scale", 1), 1, "scale must be a number above 1, got 1.0"),
        (("--layer", "stag2"), 1, "no layer 'stag2'; did you mean stage2"),
        (("--layer", "head"), 1, "no spatial extent"),
        (("--octaves", 20), 1, "too small for octaves=20"),
        (("--guide", "nowhere.jpg"), 1, "nowhere.jpg"),
    ],
)
def test_errors(run, examples, tmp_path, words, code, message):
    got, out, err = run("dream", examples / "cat.jpg", *words)
    assert (got, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())
