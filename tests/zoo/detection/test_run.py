import contextlib
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.zoo.detection.small import (
    BLUE,
    RED,
    paint,
    random_detector,
    rectangle_finder,
    save_photo,
)
from zoo.detection.colors import label_colors
from zoo.detection.run import detect_files
from zoo.inference.images import ImageError
from zoo.inference.video import find_ffmpeg, open_video, read_frames, write_video
from zoo.runtime.checks import ArgumentError
from zoo.runtime.extras import MissingExtraError

PHOTO = paint((96, 64), red=(8, 16, 40, 48), blue=(60, 20, 90, 60))
RED_BOX, BLUE_BOX = (8, 16, 40, 48), (60, 20, 90, 60)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working directory, an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def finder():
    return rectangle_finder()


def read(path):
    with Image.open(path) as image:
        assert not image.getexif()
        return np.asarray(image.convert("RGB"))


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def boxes(found):
    return {one.label: one.box for one in found.detections}


def moving(count, size=(96, 64)):
    """Frames with a red square that moves by 4 pixels to the right."""
    return [paint(size, red=(8 + 4 * i, 16, 24 + 4 * i, 32)) for i in range(count)]


def test_photos_of_all_kinds_in_order(finder, folder):
    save_photo(folder / "b.png", PHOTO)
    save_photo(folder / "photos/z/c.png", paint((50, 40), red=(8, 8, 20, 30)))
    save_photo(folder / "photos/a.png", paint((40, 50)))
    sources = ["b.png", "photos", PHOTO, io.BytesIO((folder / "b.png").read_bytes())]
    found = list(detect_files(finder, sources, threshold=0.2))
    names = ["b.png", "photos/a.png", "photos/z/c.png", "image 3", "image 4"]
    assert [one.name for one in found] == names
    assert [one.size for one in found] == [(96, 64), (40, 50), (50, 40), (96, 64), (96, 64)]
    both = {"red": RED_BOX, "blue": BLUE_BOX}
    assert list(map(boxes, found)) == [both, {}, {"red": (8, 8, 20, 30)}, both, both]
    assert {(one.frame, one.picture, one.error) for one in found} == {(None, None, None)}
    assert files_below(folder) == ["b.png", "photos/a.png", "photos/z/c.png"]


def test_threshold_and_labels(finder):
    def labels(**options):
        (found,) = detect_files(finder, PHOTO, **options)
        return [one.label for one in found.detections]

    assert labels() == ["red"]
    assert labels(threshold=0.3) == ["red", "blue"]
    assert labels(threshold=0.3, labels=["blue", "green"]) == ["blue"]
    assert labels(labels="blue") == []


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_photos_that_cannot_be_read_are_between_the_others(finder, folder, batch_size):
    sides = [16, 0, 0, 20, 24, 0, 28, 32, 0]
    for number, side in enumerate(sides):
        photo = paint((64, 48), red=(8, 8, 8 + side, 8 + side)) if side else None
        if side:
            save_photo(folder / f"{number}.png", photo)
        else:
            (folder / f"{number}.png").write_text("no photo")
    found = list(detect_files(finder, ".", "out", batch_size=batch_size))
    assert [one.name for one in found] == [f"{number}.png" for number in range(len(sides))]
    for one, side in zip(found, sides, strict=True):
        if side:
            assert boxes(one) == {"red": (8, 8, 8 + side, 8 + side)}
        else:
            assert str(one.error) == f"{one.name} is not an image of a known format"
            assert one == (one.name, (0, 0), (), None, None, one.error)
    assert files_below(folder / "out") == [f"{n}.png" for n, side in enumerate(sides) if side]
    assert max(finder.batches) == min(batch_size, 5)


def test_batches_are_no_larger_than_needed(finder, folder):
    for number in range(3):
        save_photo(folder / f"{number}.png", PHOTO)
    given = []
    original = type(finder).detect_each

    def detect_each(self, images, *, threshold, batch_size):
        given.append(batch_size)
        return original(self, images, threshold=threshold, batch_size=batch_size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(finder), "detect_each", detect_each)
        for files in (["0.png"], ["0.png", "1.png", "2.png"]):
            list(detect_files(finder, files, batch_size=64))
    assert given == [1, 4]


def test_only_files_that_cannot_be_read(finder, folder):
    (folder / "empty").mkdir()
    first, second = detect_files(finder, ["empty", "nowhere.jpg"], "out")
    assert str(first.error) == "empty is a folder without images"
    assert str(second.error).startswith("nowhere.jpg cannot be read")
    assert not (folder / "out").exists()


def test_an_error_names_an_image_that_has_no_file(finder):
    (found,) = detect_files(finder, [np.zeros((4, 4, 3), np.uint8)])
    assert str(found.error).startswith("image 0: ")


def test_pictures(finder, folder):
    save_photo(folder / "cat.png", PHOTO)
    green = paint((1600, 1600), green=(80, 300, 600, 1200))
    save_photo(folder / "more/dog.JPG", green, format="JPEG", quality=95)
    found = list(detect_files(finder, ["cat.png", "more"], folder / "new/out", threshold=0.2))
    pictures = [folder / "new/out/cat.png", folder / "new/out/dog.JPG"]
    assert [one.picture for one in found] == pictures
    assert files_below(folder / "new") == ["out/cat.png", "out/dog.JPG"]
    # The same colours in all pictures: those of all classes of the detector.
    colors = label_colors(["red", "green", "blue"])
    first, second = map(read, pictures)
    assert (first[47, 8:40] == colors["red"]).all()
    assert (first[59, 60:90] == colors["blue"]).all()
    assert (first[40, 12:36] == RED).all()
    assert (first[55, 64:86] == BLUE).all()
    # In the middle of a line of 8 pixels, as a JPEG mixes the colours at its edges.
    assert np.abs(np.float32(second[1195:1197, 90:590]) - colors["green"]).mean() < 10
    np.testing.assert_array_equal(read(folder / "cat.png"), PHOTO)


def test_names_of_pictures(finder, folder):
    """Formats that are written are kept; no two pictures have one name, in any case."""
    photos = ["a/cat.png", "b/CAT.png", "b/cat-2.png", "c/cat.webp", "c/cat.bmp", "c/dog.tiff"]
    for name in photos:
        save_photo(folder / name, PHOTO)
    found = list(detect_files(finder, [*photos, PHOTO, PHOTO], "out"))
    names = ["cat.png", "CAT-2.png", "cat-2-2.png", "cat.webp", "cat-3.png", "dog.png"]
    assert [one.picture.name for one in found] == [*names, "photo.png", "photo-2.png"]
    assert files_below(folder / "out") == sorted([*names, "photo.png", "photo-2.png"])


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_photos_are_upright(finder, folder, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    save_photo(folder / "cat.png", PHOTO, exif=exif)
    (found,) = detect_files(finder, "cat.png", "out")
    turns = {1: 0, 3: 2, 6: -1, 8: 1}[orientation]
    upright = np.rot90(PHOTO, turns)
    assert found.size == upright.shape[1::-1]
    (x1, y1, x2, y2) = map(int, found.detections[0].box)
    assert (upright[y1:y2, x1:x2] == RED).all()
    assert (upright == RED).all(axis=-1).sum() == (x2 - x1) * (y2 - y1)
    picture = read(folder / "out/cat.png")
    assert picture.shape == upright.shape
    assert (picture[y2 - 1, x1:x2] == label_colors(["red", "green", "blue"])["red"]).all()


def test_pictures_of_the_call_before_are_not_looked_at(finder, folder):
    save_photo(folder / "photos/cat.png", PHOTO)
    for _ in range(2):
        found = list(detect_files(finder, "photos", "photos/found"))
        assert [one.name for one in found] == ["photos/cat.png"]
    # Unless they are asked for.
    found = list(detect_files(finder, ["photos/found", "photos/found/cat.png"]))
    assert [one.name for one in found] == 2 * ["photos/found/cat.png"]


@pytest.mark.parametrize(
    ("files", "out"),
    [
        ("photos", "photos"),
        ("photos/cat.png", "photos/../photos"),
        (["other/cat.png", "photos/cat.png"], "photos"),
        (["clip.mp4"], "."),
        ("photos/cat.png", "link"),
    ],
)
def test_files_are_never_written_over(finder, folder, files, out):
    for name in ("photos/cat.png", "other/cat.png"):
        save_photo(folder / name, PHOTO)
    (folder / "clip.mp4").write_bytes(b"video")
    (folder / "link").symlink_to(folder / "photos")
    before = {path: path.read_bytes() for path in folder.rglob("*.???")}
    with pytest.raises(ArgumentError, match="is one of the files to look at"):
        detect_files(finder, files, out)
    assert before == {path: path.read_bytes() for path in folder.rglob("*.???")}


def test_a_video(finder, folder):
    frames = moving(5)
    write_video(folder / "clip.mp4", iter(frames), 10)
    save_photo(folder / "cat.png", PHOTO)
    found = list(detect_files(finder, ["cat.png", "clip.mp4", "cat.png"], "out", batch_size=2))
    assert [one.frame for one in found] == [None, 0, 1, 2, 3, 4, None]
    assert [one.name for one in found[1:6]] == 5 * ["clip.mp4"]
    assert {one.picture for one in found[1:6]} == {
        folder.joinpath("out/clip.mp4").relative_to(folder)
    }
    for number, one in enumerate(found[1:6]):
        assert one.size == (96, 64)
        want = (8 + 4 * number, 16, 24 + 4 * number, 32)
        # What the video's colours of half the resolution move edges by.
        assert boxes(one)["red"] == pytest.approx(want, abs=2)
    film = open_video("out/clip.mp4")
    assert (film.width, film.height, film.fps, film.frames) == (96, 64, 10, 5)
    color = np.float32(label_colors(["red", "green", "blue"])["red"])
    for number, pixels in enumerate(read_frames(film)):
        # Above the square stands its tag, the only thing of its colour outside.
        tag = pixels[6:14, 10 + 4 * number : 40 + 4 * number].reshape(-1, 3)
        assert (np.abs(tag - color).max(axis=-1) < 60).mean() > 0.3
    assert files_below(folder / "out") == ["cat-2.png", "cat.png", "clip.mp4"]


def test_the_film_of_a_video_keeps_its_sound_and_becomes_an_mp4(finder, folder):
    words = "-loglevel error -f lavfi -i testsrc=size=48x32:rate=10:duration=0.4 -f lavfi -i sine"
    coding = "-c:v mpeg4 -c:a aac -t 0.4"
    subprocess.run([find_ffmpeg(), *f"{words} {coding}".split(), "a.mov"], check=True)
    found = list(detect_files(finder, "a.mov", "out"))
    assert len(found) == 4
    report = subprocess.run([find_ffmpeg(), "-i", "out/a.mp4"], capture_output=True, check=False)
    assert b"Audio: aac" in report.stderr


@pytest.mark.parametrize("out", [None, "out"])
def test_a_video_that_is_damaged_ends_with_an_error(finder, folder, out):
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8)
    write_video(folder / "whole.mp4", iter(noise), 10)
    words = "-loglevel error -i whole.mp4 -c copy whole.avi"
    subprocess.run([find_ffmpeg(), *words.split()], check=True)
    data = (folder / "whole.avi").read_bytes()
    (folder / "cut.avi").write_bytes(data[: len(data) // 2])
    (folder / "text.mp4").write_text("no video")
    save_photo(folder / "cat.png", PHOTO)
    *frames, error, text, photo = detect_files(
        finder, ["cut.avi", "text.mp4", "cat.png"], out, batch_size=4
    )
    assert 0 < len(frames) < 20
    assert [one.frame for one in frames] == list(range(len(frames)))
    assert str(error.error) == "cut.avi is damaged or truncated"
    assert str(text.error).startswith("text.mp4 is no video")
    assert boxes(photo) == {"red": RED_BOX}
    assert files_below(folder / "out") == (["cat.png"] if out else [])


def test_whoever_stops_early_leaves_nothing_behind(finder, folder):
    write_video(folder / "clip.mp4", iter(moving(30)), 10)
    found = detect_files(finder, "clip.mp4", "out")
    with contextlib.closing(found):
        assert next(found).frame == 0
        assert next(found).frame == 1
    assert files_below(folder / "out") == []


def test_progress(finder, folder):
    write_video(folder / "clip.mp4", iter(moving(3)), 10)
    save_photo(folder / "cat.png", PHOTO)
    calls = []
    files = ["cat.png", "nowhere.png", "clip.mp4"]
    list(detect_files(finder, files, progress=lambda *steps: calls.append(steps)))
    assert calls == [(1, 2), (2, 2), (1, 3), (2, 3), (3, 3)]


def test_a_video_needs_ffmpeg_before_anything_is_computed(finder, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingExtraError, match="visualize"):
        detect_files(finder, [PHOTO, "clip.mp4"])
    assert finder.batches == []


@pytest.mark.parametrize(
    ("files", "options", "error", "message"),
    [
        ("cat.png", {"threshold": 1.5}, ArgumentError, "threshold must be a number from 0 to 1"),
        ("cat.png", {"threshold": np.nan}, ArgumentError, "threshold must be a number"),
        ("cat.png", {"batch_size": 0}, ArgumentError, "batch_size must be an integer"),
        ("cat.png", {"labels": ["gren"]}, ArgumentError, "got 'gren'; did you mean green"),
        ("cat.png", {"labels": ["background"]}, ArgumentError, "got 'background'; there are red"),
        ("cat.png", {"labels": []}, ArgumentError, "labels must name a class at least"),
        ("cat.png", {"out": "cat.png"}, ArgumentError, "out must be a folder, and cat.png is"),
        ([], {}, ImageError, "at least one image is needed"),
    ],
)
def test_bad_arguments(finder, folder, files, options, error, message):
    save_photo(folder / "cat.png", PHOTO)
    with pytest.raises(error, match=message):
        detect_files(finder, files, **options)


def test_a_classifier_is_no_detector(lite):
    with pytest.raises(ArgumentError, match="must be a detector, got the model EfficientNetLite0"):
        detect_files(lite, [PHOTO])


def test_a_detector_of_the_zoo_finds_what_detect_finds(folder):
    """The order and the photos' sizes: batches have other shapes than single photos."""
    detector = random_detector()
    rng = np.random.default_rng(0)
    sizes = [(90, 60), (60, 90), (90, 60), (64, 64), (200, 50)]
    photos = [rng.integers(0, 256, (height, width, 3), np.uint8) for width, height in sizes]
    found = list(detect_files(detector, photos, threshold=0, batch_size=2))
    assert [one.size for one in found] == sizes
    for one, photo in zip(found, photos, strict=True):
        want = detector.detect(photo, threshold=0)
        assert len(want) == len(one.detections) > 0
        # Scores of random weights are close to each other: they are compared, not the order.
        scores = [[each.score for each in several] for several in (one.detections, want)]
        np.testing.assert_allclose(*scores, rtol=1e-4)
