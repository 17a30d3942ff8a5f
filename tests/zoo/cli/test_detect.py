"""`zoo detect`: output, files, messages, exit codes."""

import contextlib
import io
import json
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import zoo
from tests.zoo.cli.shell import runner
from tests.zoo.detection.small import paint, random_detector, rectangle_finder, save_photo
from zoo.inference.video import open_video, write_video

PHOTO = paint((96, 64), red=(8, 16, 40, 48), blue=(60, 20, 90, 60))
RED = {"label": "red", "score": 0.9, "box": [8, 16, 40, 48]}
BLUE = {"label": "blue", "score": 0.3, "box": [60, 20, 90, 60]}


@pytest.fixture
def loaded(monkeypatch):
    """The arguments with which models were loaded; what was loaded finds rectangles."""
    calls = []

    def trained(model, *, weights=None):
        calls.append((model, weights))
        return rectangle_finder()

    monkeypatch.setattr(zoo, "trained", trained)
    return calls


@pytest.fixture
def shell(monkeypatch, capfd, tmp_path):
    """Runs the command line in an empty folder."""
    monkeypatch.setattr("zoo.runtime.compiler.cache_compilations", lambda: None)
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capfd)


@pytest.fixture
def run(shell, loaded):
    """Runs `zoo detect` with a detector that finds rectangles."""
    return lambda *words: shell("detect", *words)


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def parse(out):
    return [json.loads(line) for line in out.splitlines()]


def test_lines_of_label_score_and_box(run, loaded, tmp_path):
    save_photo(tmp_path / "a.png", PHOTO)
    save_photo(tmp_path / "b.png", paint((40, 40)))
    code, out, err = run("a.png", "b.png", "--threshold", 0.2)
    assert (code, err) == (0, "")
    first, red, blue, last = out.splitlines()
    assert (first, last) == ("a.png", "b.png")
    assert red.split() == ["red", "0.90", "8", "16", "40", "48"]
    assert blue.split() == ["blue", "0.30", "60", "20", "90", "60"]
    assert loaded == [("SSDLite320_MobileNetV3_Large", None)]


def test_json_is_one_object_a_line(run, tmp_path):
    save_photo(tmp_path / "photos/a.png", PHOTO)
    save_photo(tmp_path / "photos/b.png", paint((40, 30)))
    code, out, err = run("photos", "--json", "--threshold", 0.3)
    assert (code, err) == (0, "")
    assert parse(out) == [
        {"file": "photos/a.png", "width": 96, "height": 64, "detections": [RED, BLUE]},
        {"file": "photos/b.png", "width": 40, "height": 30, "detections": []},
    ]


def test_what_cannot_be_read_is_told_and_the_others_go_on(run, tmp_path):
    save_photo(tmp_path / "photos/b.png", PHOTO)
    (tmp_path / "photos/a.png").write_text("no photo")
    message = "photos/a.png is not an image of a known format"
    code, out, err = run("photos", "nowhere.png")
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()] == ["photos/b.png", "red"]
    missing = "nowhere.png cannot be read: No such file or directory"
    assert err == f"zoo: {message}\nzoo: {missing}\n"
    code, out, err = run("photos", "nowhere.png", "--json", "--out", "found")
    assert code == 1
    bad, good, gone = parse(out)
    assert bad == {"file": "photos/a.png", "error": message}
    assert gone == {"file": "nowhere.png", "error": missing}
    assert (good["detections"], good["picture"]) == ([RED], "found/b.png")
    assert err == f"zoo: {message}\nzoo: {missing}\n"
    assert files_below(tmp_path / "found") == ["b.png"]


def test_pictures_go_into_a_folder(run, tmp_path):
    save_photo(tmp_path / "a.png", PHOTO)
    code, out, _ = run("a.png", "--out", "new/found")
    assert (code, out.splitlines()[0]) == (0, "a.png")
    with Image.open(tmp_path / "new/found/a.png") as picture:
        changed = (np.asarray(picture) != PHOTO).any(axis=-1)
    assert changed[16, 8:40].all()
    assert not changed[20:47, 10:38].any()


def test_labels(run, tmp_path):
    save_photo(tmp_path / "a.png", PHOTO)
    words = ("a.png", "--json", "--threshold", 0.1)
    assert parse(run(*words, "--labels", "blue")[1])[0]["detections"] == [BLUE]
    assert parse(run(*words, "--labels", "green, red")[1])[0]["detections"] == [RED]


def test_a_photo_on_standard_input(run, tmp_path, monkeypatch):
    save_photo(tmp_path / "a.png", PHOTO)
    file = io.BytesIO((tmp_path / "a.png").read_bytes())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
    code, out, _ = run("-", "--out", "found", "--json")
    assert code == 0
    assert parse(out)[0]["detections"] == [RED]
    assert files_below(tmp_path / "found") == ["photo.png"]


def test_names_that_a_terminal_would_obey(run, tmp_path):
    save_photo(tmp_path / "a\x1b[31m.png", PHOTO)
    _, out, _ = run("a\x1b[31m.png")
    assert out.splitlines()[0] == r"a\x1b[31m.png"
    assert parse(run("a\x1b[31m.png", "--json")[1])[0]["file"] == "a\x1b[31m.png"


def test_a_video(run, tmp_path):
    frames = [paint((96, 64), red=(8 + 4 * i, 16, 24 + 4 * i, 32)) for i in range(3)]
    write_video(tmp_path / "clip.mp4", iter(frames), 10)
    code, out, err = run("clip.mp4", "--out", "found", "--json", "--batch-size", 2)
    assert (code, err) == (0, "")
    rows = parse(out)
    assert [row["frame"] for row in rows] == [0, 1, 2]
    assert {(row["file"], row["width"], row["height"]) for row in rows} == {("clip.mp4", 96, 64)}
    assert open_video("found/clip.mp4").frames == 3
    code, out, _ = run("clip.mp4")
    lines = out.splitlines()
    assert lines[::2] == ["clip.mp4 frame 0", "clip.mp4 frame 1", "clip.mp4 frame 2"]
    assert [line.split()[0] for line in lines[1::2]] == 3 * ["red"]


def test_progress(run, tmp_path, monkeypatch):
    """It is shown beside output that goes to a file, and not between lines on a terminal."""
    save_photo(tmp_path / "a.png", PHOTO)
    steps = []

    @contextlib.contextmanager
    def show_progress(title):
        steps.append(title)
        yield lambda done, total: steps.append((done, total))

    monkeypatch.setattr("zoo.cli.detect.show_progress", show_progress)
    run("a.png", "a.png")
    assert steps == ["detecting", (1, 2), (2, 2)]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run("a.png")[0] == 0
    assert len(steps) == 3


def test_errors_are_told_after_an_interruption(run, tmp_path, monkeypatch):
    for number in range(3):
        save_photo(tmp_path / f"{number}.png", PHOTO)
    monkeypatch.setattr("zoo.cli.detect._print_detections", interrupt)
    code, out, err = run("nowhere.png", "0.png", "1.png", "--out", "found")
    assert (code, out) == (130, "")
    assert err.strip() == "zoo: nowhere.png cannot be read: No such file or directory"
    assert files_below(tmp_path / "found") == ["0.png"]


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Missing argument"),
        (("",), "a file has no name"),
        (("a.png", "--threshold", 1.5), "--threshold"),
        (("a.png", "--threshold", "nan"), "--threshold"),
        (("a.png", "--batch-size", 0), "--batch-size"),
        (("a.png", "--labels", "rde"), "--labels must be classes of the detector, got 'rde'; did"),
        (("a.png", "--labels", ""), "--labels must be classes of the detector, got ''; there are"),
        (("a.png", "--out", "b.png"), "--out must be a folder, and b.png is a file"),
        (("a.png", "--out", "."), "--out must be another folder: a.png is one of the files"),
        (("photos", "--out", "photos"), "photos/c.png is one of the files to look at"),
        (("a.png", "--model", "ResNet50"), "ResNet50 is no detector; there are"),
        (("a.png", "--model", "FCOS_ResNet50_FNP"), "did you mean FCOS_ResNet50_FPN"),
        (("empty",), "empty is a folder without images"),
    ],
)
def test_wrong_command_lines_are_one_line(run, tmp_path, words, message):
    for name in ("a.png", "b.png", "photos/c.png"):
        save_photo(tmp_path / name, PHOTO)
    (tmp_path / "empty").mkdir()
    before = files_below(tmp_path)
    code, out, err = run(*words)
    assert code in (1, 2)
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1
    assert files_below(tmp_path) == before


def test_a_video_needs_the_extra(run, tmp_path, monkeypatch):
    save_photo(tmp_path / "a.png", PHOTO)
    (tmp_path / "clip.mp4").write_bytes(b"\0" * 64)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    code, out, err = run("a.png", "clip.mp4")
    assert (code, out) == (1, "")
    assert "pip install 'jax-zoo[visualize]'" in err
    assert len(err.splitlines()) == 1


def test_a_checkpoint_of_a_detector(shell, tmp_path, examples):
    """Real photos, and a detector that the zoo loads."""
    detector = random_detector()
    detector.save(tmp_path / "mine")
    words = ("--weights", "mine", "--threshold", 0, "--json", "--out", "found")
    code, out, err = shell("detect", examples, *words)
    assert (code, err) == (0, "")
    rows = parse(out)
    assert [row["file"] for row in rows] == [
        str(examples / f"{name}.jpg") for name in ("cat", "espresso", "rocket")
    ]
    for row in rows:
        want = detector.detect(row["file"], threshold=0)
        scores = [one["score"] for one in row["detections"]]
        np.testing.assert_allclose(scores, [one.score for one in want], rtol=1e-4)
        with Image.open(row["picture"]) as picture:
            assert picture.size == (row["width"], row["height"])


def test_weights_that_are_another_models(shell, tmp_path, lite, examples):
    lite.save(tmp_path / "lite")
    code, out, err = shell("detect", examples / "cat.jpg", "--weights", "lite")
    assert (code, out) == (1, "")
    assert "EfficientNetLite0" in err
    assert len(err.splitlines()) == 1


def test_weights_that_are_not_finite(shell, tmp_path, examples):
    detector = random_detector()
    broken = jax.tree.map(lambda x: x * np.nan, detector.variables)
    detector.replace(variables=broken).save(tmp_path / "nan")
    code, out, err = shell("detect", examples / "cat.jpg", "--weights", "nan")
    assert (code, out) == (1, "")
    assert "not finite" in err
