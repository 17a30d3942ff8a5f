"""`zoo style`: files, messages, exit codes."""

import io
import signal
import sys

import numpy as np
import pytest
from PIL import Image

import zoo
from tests.zoo.cli.shell import runner
from tests.zoo.style.small import random_styles
from zoo.inference.video import open_video, write_video
from zoo.style import styles as styles_module


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A folder of the checkpoints "two", of the styles dots and lines, and "one", of mine."""
    folder = tmp_path_factory.mktemp("checkpoints")
    random_styles(("dots", "lines"), width=1 / 16).save(folder / "two")
    random_styles(("mine",), width=1 / 16).save(folder / "one")
    return folder


@pytest.fixture
def run(monkeypatch, capfd, tmp_path, checkpoints):
    """Runs the command line in an empty folder; the package's styles are dots and lines."""
    monkeypatch.setattr("zoo.runtime.compiler.cache_compilations", lambda: None)
    loaded = zoo.style.load_styles(checkpoints / "two")
    monkeypatch.setattr(styles_module, "_load_embedded", lambda: loaded)
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capfd)


def save_photo(path, seed=0, size=(48, 32)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def read(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_photo(run, tmp_path):
    pixels = save_photo(tmp_path / "cat.png")
    code, out, err = run("style", "apply", "cat.png", "--style", "dots")
    assert (code, out) == (0, "cat-dots.png\n")
    assert err.startswith("1 photo in ")
    np.testing.assert_array_equal(read("cat-dots.png"), zoo.style.apply(pixels, "dots").pixels)


def test_options_reach_the_picture(run, tmp_path):
    pixels = save_photo(tmp_path / "cat.png")
    words = ("--size", 64, "--keep-colors", "--strength", 0.5, "--out", "a.png")
    assert run("style", "apply", "cat.png", "--style", "lines", *words)[:2] == (0, "a.png\n")
    want = zoo.style.apply(pixels, "lines", size=64, keep_colors=True, strength=0.5)
    assert want.pixels.shape == (43, 64, 3)
    np.testing.assert_array_equal(read("a.png"), want.pixels)


def test_styles_are_blended(run, tmp_path):
    pixels = save_photo(tmp_path / "cat.png")
    words = ("--style", "dots=1", "--style", "lines=3")
    assert run("style", "apply", "cat.png", *words)[:2] == (0, "cat-dots-lines.png\n")
    want = zoo.style.apply(pixels, {"dots": 0.25, "lines": 0.75}).pixels
    np.testing.assert_array_equal(read("cat-dots-lines.png"), want)


def test_a_blend_weighs_styles_without_a_number_equally(run, tmp_path):
    pixels = save_photo(tmp_path / "cat.png")
    assert run("style", "apply", "cat.png", "--style", "dots", "--style", "lines")[0] == 0
    want = zoo.style.apply(pixels, {"dots": 0.5, "lines": 0.5}).pixels
    np.testing.assert_array_equal(read("cat-dots-lines.png"), want)


def test_a_checkpoint_of_one_style(run, checkpoints, tmp_path):
    pixels = save_photo(tmp_path / "cat.png")
    for words in (("--style", checkpoints / "one"), ("--styles", checkpoints / "one")):
        assert run("style", "apply", "cat.png", *words)[:2] == (0, "cat-mine.png\n")
        want = zoo.style.apply(pixels, checkpoints / "one").pixels
        np.testing.assert_array_equal(read("cat-mine.png"), want)


def test_a_style_of_a_checkpoint_of_several(run, checkpoints, tmp_path):
    save_photo(tmp_path / "cat.png")
    words = ("--styles", checkpoints / "two", "--style", "lines")
    assert run("style", "apply", "cat.png", *words)[:2] == (0, "cat-lines.png\n")


def test_standard_input(run, tmp_path, monkeypatch):
    save_photo(tmp_path / "cat.png")
    file = io.BytesIO((tmp_path / "cat.png").read_bytes())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
    assert run("style", "apply", "-", "--style", "dots")[:2] == (0, "photo-dots.png\n")
    np.testing.assert_array_equal(read("photo-dots.png"), zoo.style.apply("cat.png", "dots").pixels)


def test_a_folder_with_photos_of_one_name(run, tmp_path):
    first = save_photo(tmp_path / "pics/a/cat.png", 1)
    second = save_photo(tmp_path / "pics/b/cat.png", 2)
    save_photo(tmp_path / "pics/b/dog.jpg", 3)
    code, out, err = run("style", "apply", "pics", "--style", "dots")
    assert code == 0
    assert out.splitlines() == ["styled/cat.png", "styled/cat-2.png", "styled/dog.png"]
    assert err.startswith("3 photos in ")
    assert err.endswith(" s each\n")
    np.testing.assert_array_equal(read("styled/cat.png"), zoo.style.apply(first, "dots").pixels)
    np.testing.assert_array_equal(read("styled/cat-2.png"), zoo.style.apply(second, "dots").pixels)


def test_a_number_after_a_name_meets_a_photo_of_that_name(run, tmp_path):
    names = ["a/cat.png", "b/cat.png", "c/cat-2.png"]
    for name in names:
        save_photo(tmp_path / name)
    _, out, _ = run("style", "apply", *names, "--style", "dots", "--out", "out")
    assert len(set(out.splitlines())) == 3
    assert files_below(tmp_path / "out") == sorted(line[4:] for line in out.splitlines())


def test_the_second_call_does_not_paint_the_pictures_of_the_first(run, tmp_path):
    save_photo(tmp_path / "cat.jpg")
    for _ in range(2):
        assert run("style", "apply", ".", "--style", "dots")[:2] == (0, "styled/cat.png\n")


def test_photos_that_cannot_be_read_are_told_at_the_end(run, tmp_path):
    save_photo(tmp_path / "pics/b.png")
    save_photo(tmp_path / "pics/d.png", size=(48, 20))
    for name in "ac":
        (tmp_path / f"pics/{name}.png").write_text("no image")
    code, out, err = run("style", "apply", "pics", "nowhere.png", "--style", "dots")
    assert (code, out) == (1, "styled/b.png\n")
    time, *errors = err.splitlines()
    assert time.startswith("1 photo in ")
    starts = ["zoo: pics/a.png", "zoo: pics/c.png", "zoo: pics/d.png", "zoo: nowhere.png"]
    assert [error[: len(start)] for error, start in zip(errors, starts, strict=True)] == starts
    assert files_below(tmp_path / "styled") == ["b.png"]


def test_photos_are_never_written_over(run, tmp_path):
    save_photo(tmp_path / "pics/cat.png")
    before = (tmp_path / "pics/cat.png").read_bytes()
    for photo, out in (
        ("pics", "pics"),
        ("pics", "pics/../pics"),
        ("pics/cat.png", "pics/cat.png"),
    ):
        code, printed, err = run("style", "apply", photo, "--style", "dots", "--out", out)
        assert (code, printed) == (2, "")
        assert "cat.png is one of the photos" in err
    assert (tmp_path / "pics/cat.png").read_bytes() == before


@pytest.mark.parametrize("ending", ["mp4", "gif"])
def test_a_video(run, tmp_path, ending):
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    write_video(tmp_path / "clip.mp4", iter(frames), 10)
    words = () if ending == "mp4" else ("--out", "clip-dots.gif")
    code, out, err = run("style", "apply", "clip.mp4", "--style", "dots", *words)
    assert (code, out) == (0, f"clip-dots.{ending}\n")
    assert err.startswith("5 frames in ")
    if ending == "mp4":
        video = open_video("clip-dots.mp4")
        assert (video.width, video.height, video.fps, video.frames) == (32, 32, 10, 5)
    else:
        with Image.open("clip-dots.gif") as image:
            assert (image.size, image.info["duration"], image.n_frames) == ((32, 32), 100, 5)


def test_a_video_needs_ffmpeg(run, tmp_path, monkeypatch):
    (tmp_path / "clip.mp4").write_bytes(b"\0" * 64)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    code, out, err = run("style", "apply", "clip.mp4", "--style", "dots")
    assert (code, out) == (1, "")
    assert "pip install 'jax-zoo[visualize]'" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--style: name one: dots, lines"),
        (("--style", "dot"), "there is no style 'dot'; there are dots, lines; did you mean dots"),
        (("--style", "runs/none"), "there is no style 'runs/none'"),
        (("--style", "dots=much"), "'dots=much' is not NAME=WEIGHT"),
        (("--style", "dots", "--style", "dots=2"), "given twice"),
        (("--style", "dots=-1"), "the weight of 'dots' must be a number of at least 0"),
        (("--style", "dots=nan"), "the weight of 'dots' must be a number"),
        (("--style", "dots=0"), "above 0"),
        (("--style", "two"), "name one of --styles two: dots, lines"),
        (("--styles", "two"), "name one: dots, lines"),
        (("--styles", "nowhere"), "nowhere"),
        (("--style", "dots", "--size", 31), "--size"),
        (("--style", "dots", "--size", 16385), "--size"),
        (("--style", "dots", "--strength", 2), "--strength"),
        (("--style", "dots", "--strength", "nan"), "--strength"),
        (("--style", "dots", "--tile", 300), "tile must be a multiple of 32"),
        (("--style", "dots", "--tile", 32), "tile must be an integer of at least 256"),
        (("--style", "dots", "--out", "a.mp4"), "must end in .png"),
        (("--style", "dots", "--out", "none/a.png"), "there is no folder none"),
        (("--style", "dots", "--out", "folder.png"), "folder.png is a folder"),
        (("empty", "--style", "dots", "--out", "cat.png"), "cat.png is a file"),
        (("empty", "--style", "dots", "--out", "new.png"), "new.png is a file"),
        (("", "--style", "dots"), "a photo has no name"),
        (("clip.mp4", "--style", "dots"), "a video goes alone"),
    ],
)
def test_wrong_command_lines_are_one_line(run, checkpoints, tmp_path, words, message):
    save_photo(tmp_path / "cat.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "two").symlink_to(checkpoints / "two")
    before = files_below(tmp_path)
    code, out, err = run("style", "apply", "cat.png", *words)
    assert code in (1, 2)
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1
    assert files_below(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("text.png",), "text.png is not an image"),
        (("empty",), "empty is a folder without images"),
        (("nowhere.png",), "nowhere.png cannot be read"),
        (("small.png",), "the photo has 20x20 pixels; at least 32 a side are needed"),
        (("text.mp4",), "text.mp4 is no video"),
        (("nowhere.mp4",), "there is no such file"),
        (("text.mp4", "--out", "text.mp4"), "text.mp4 is one of the photos"),
        (("text.mp4", "--out", "a.png"), "must end in .mp4, .gif"),
        (("text.mp4", "--out", "empty"), "empty is a folder"),
    ],
)
def test_wrong_photos_are_one_line(run, tmp_path, words, message):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    save_photo(tmp_path / "small.png", size=(20, 20))
    code, out, err = run("style", "apply", *words, "--style", "dots")
    assert code in (1, 2)
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1
    assert files_below(tmp_path) == ["small.png", "text.mp4", "text.png"]


def test_list(run):
    assert run("style", "list") == (0, "dots\nlines\n", "")


def test_help_lists_the_commands(run):
    code, out, _ = run("style")
    assert code == 0
    assert all(name in out for name in ("apply", "list", "train", "optimize", "convert"))


@pytest.fixture
def trained(monkeypatch):
    """What `zoo.style.train` is called with; it trains nothing."""
    calls = []

    def train(styles, photos, **options):
        calls.append((styles, photos, options))
        return random_styles(tuple(name.partition(".")[0] for name in styles))

    monkeypatch.setattr(zoo.style, "train", train)
    return calls


def test_training_takes_all_options(run, trained, tmp_path):
    save_photo(tmp_path / "photos/a.png")
    numbers = {"steps": 7, "epochs": 2.0, "minutes": 3.0, "size": 64, "style_size": 96}
    numbers |= {"batch_size": 2, "content_weight": 3.0, "style_weight": 4.0, "width": 0.25}
    numbers |= {"patience": 5}
    words = [part for n, value in numbers.items() for part in (f"--{n.replace('_', '-')}", value)]
    words += ["--tv", 0.1, "--set", "rate=0.01", "--set", "upsampling=transposed", "--norms-only"]
    words += ["--content-layer", "stage2/conv2", "--style-layer", "stage1/conv1"]
    words += [
        "--style-layer",
        "stage2/conv1",
        "--start",
        "before",
        "--workers",
        1,
        "--out",
        "run",
        "--model",
        "VGG19",
    ]
    code, out, _ = run("style", "train", "a.jpg", "b.jpg", "photos", *words)
    assert code == 0
    assert out.splitlines() == [
        "model: run/model",
        "use it: zoo style apply PHOTO --styles run/model --style a",
    ]
    ((styles, photos, options),) = trained
    settings = options.pop("settings")
    assert (styles, photos) == (["a.jpg", "b.jpg"], "photos")
    numbers |= {"variation_weight": 0.1, "rate": 0.01, "upsampling": "transposed"}
    assert settings == zoo.style.StyleSettings(**numbers, norms_only=True)
    expected = {"folder": "run", "model": "VGG19", "start": "before", "workers": 1}
    expected |= {"content_layers": ["stage2/conv2"]}
    expected |= {"style_layers": ["stage1/conv1", "stage2/conv1"]}
    assert {name: value if name != "folder" else str(value) for name, value in options.items()} == (
        expected
    )


def test_a_training_goes_to_a_folder_of_the_styles_name(run, trained, tmp_path):
    save_photo(tmp_path / "photos/a.png")
    code, out, _ = run("style", "train", "a.jpg", "photos")
    assert code == 0
    assert out.splitlines()[1] == "use it: zoo style apply PHOTO --style runs/a/model"
    ((_, _, options),) = trained
    assert options["settings"] == zoo.style.StyleSettings()


def test_a_training_that_is_told_to_stop(run, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise zoo.training.InterruptedTrainingError("step 3 is saved", signal.SIGTERM)

    monkeypatch.setattr(zoo.style, "train", stop)
    save_photo(tmp_path / "photos/a.png")
    assert run("style", "train", "a.jpg", "photos") == (143, "", "zoo: step 3 is saved\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "a.png"), "Missing argument"),
        (("train", "a.png", "nowhere"), "nowhere is no folder"),
        (("train", "a.png", "a.png"), "a.png is no folder"),
        (("train", "b.png", "photos"), "b.png cannot be read: No such file"),
        (("train", "a.png", "photos/a.png", "photos"), "two styles are called 'a'"),
        (("train", "a.png", "photos", "--size", 30), "size must be an integer of at least 32"),
        (("train", "a.png", "photos", "--size", 34), "size must be a multiple of 4, got 34"),
        (("train", "a.png", "photos", "--steps", 0), "steps must be an integer of at least 1"),
        (("train", "a.png", "photos", "--width", 9), "width must be a number from"),
        (("train", "a.png", "photos", "--set", "rat=1"), "no setting 'rat'; did you mean rate"),
        (("train", "a.png", "photos", "--set", "rate"), "'rate' is not NAME=VALUE"),
        (("train", "a.png", "photos", "--norms-only"), "norms_only needs start"),
        (("train", "a.png", "photos", "--start", "nowhere"), "nowhere"),
        (("train", "a.png", "empty"), "empty is no folder of photos"),
        (("optimize", "nowhere.png", "a.png"), "nowhere.png cannot be read"),
        (("optimize", "a.png", "nowhere.png"), "nowhere.png cannot be read"),
        (("optimize", "a.png", "a.png", "--steps", 0), "--steps"),
        (("optimize", "a.png", "a.png", "--size", 31), "--size"),
        (("optimize", "a.png", "a.png", "--tv", -1), "variation_weight must be a number"),
        (("optimize", "a.png", "a.png", "--out", "a.png"), "a.png is one of the photos"),
        (("optimize", "b", "a.png", "--out", "a.png"), "a.png is one of the photos"),
        (("optimize", "a.png", "a.png", "--out", "photos"), "photos is a folder"),
        (("convert", "a.png", "--out", "b"), "a.png"),
        (("convert", "nowhere.pth", "--out", "b"), "nowhere.pth"),
    ],
)
def test_other_wrong_command_lines_are_one_line(run, tmp_path, words, message):
    save_photo(tmp_path / "a.png")
    save_photo(tmp_path / "photos/a.png")
    (tmp_path / "empty").mkdir()
    before = files_below(tmp_path)
    code, out, err = run("style", *words)
    assert code in (1, 2)
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1
    assert files_below(tmp_path) == before


def test_optimize(run, tmp_path, monkeypatch):
    calls = []

    def optimize(photo, style, *, progress, **options):
        calls.append((photo, style, options))
        return zoo.visualize.Picture(np.zeros((32, 48, 3), np.uint8))

    monkeypatch.setattr(zoo.style, "optimize", optimize)
    code, out, err = run("style", "optimize", "cat.jpg", "art/waves.jpg", "--steps", 3, "--tv", 0.2)
    assert (code, out, err) == (0, "cat-waves.png\n", "")
    options = {"model": "VGG16", "size": 512, "steps": 3, "variation_weight": 0.2}
    assert calls == [("cat.jpg", "art/waves.jpg", options)]
    assert read("cat-waves.png").shape == (32, 48, 3)


def test_convert(run, checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(
        zoo.style, "convert", lambda file, name: random_styles((name or file.stem,))
    )
    code, out, err = run("style", "convert", "candy.pth", "--out", "candy")
    lines = "model: candy\nuse it: zoo style apply PHOTO --style candy\n"
    assert (code, out, err) == (0, lines, "")
    assert zoo.style.load_styles("candy").names == ("candy",)
    code, out, err = run("style", "convert", "candy.pth", "--out", "candy", "--name", "sweet")
    assert (code, out) == (1, "")
    assert "candy exists already; --overwrite replaces it" in err
    words = ("--out", "candy", "--name", "sweet", "--overwrite")
    assert run("style", "convert", "candy.pth", *words)[0] == 0
    assert zoo.style.load_styles("candy").names == ("sweet",)
