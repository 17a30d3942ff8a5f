"""Zooming videos, read back."""

import itertools
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from tests.zoo.deep_dream.tiny import photo, tiny
from zoo.deep_dream import dream, dream_video, video
from zoo.deep_dream.video import enlarge
from zoo.runtime.checks import ArgumentError
from zoo.visualize.pictures import PictureError

QUICK = {"layers": "conv1", "octaves": 1, "steps": 2, "tile": 64, "jitter": 8}


@pytest.fixture(scope="module")
def net():
    return tiny()


def read_gif(path):
    with Image.open(path) as image:
        for frame in range(image.n_frames):
            image.seek(frame)
            yield np.asarray(image.convert("RGB"))


def read_mp4(path, height, width):
    program = imageio_ffmpeg.get_ffmpeg_exe()
    words = ["-loglevel", "error", "-i", f"file:{path}", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    data = subprocess.run([program, *words], capture_output=True, check=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, height, width, 3)


def test_gif(net, tmp_path):
    path = tmp_path / "dream.gif"
    assert dream_video(net, photo(), path, frames=4, fps=10, **QUICK) == path
    frames = list(read_gif(path))
    assert len(frames) == 4
    with Image.open(path) as image:
        assert image.info["duration"] == 100
    want = dream(net, photo(), **QUICK).pixels
    assert np.abs(np.float32(frames[0]) - want).mean() < 8  # of 256 colours
    assert [file.name for file in tmp_path.iterdir()] == ["dream.gif"]


def test_mp4(net, tmp_path):
    path = tmp_path / "a:dream.mp4"
    dream_video(net, photo(49, 65), path, frames=3, **QUICK)
    frames = read_mp4(path, 48, 64)
    assert len(frames) == 3
    want = dream(net, photo(49, 65), **QUICK).pixels[:48, :64]  # even sides
    assert np.abs(np.float32(frames[0]) - want).mean() < 12  # of half the colours
    assert [file.name for file in tmp_path.iterdir()] == ["a:dream.mp4"]


def test_the_same_seed_gives_the_same_file(net, tmp_path):
    for name in ("a.gif", "b.gif"):
        dream_video(net, photo(), tmp_path / name, frames=2, seed=3, **QUICK)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()


def test_each_frame_is_dreamt_from_the_middle_of_the_last(net, tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(
        video.Dreamer, "run", lambda self, image, progress: begun.append(image) or image * 0.9
    )
    dream_video(net, photo(), tmp_path / "a.gif", frames=3, zoom=2, **QUICK)
    np.testing.assert_array_equal(begun[0], np.float32(photo()) / 255)
    for before, after in itertools.pairwise(begun):
        np.testing.assert_allclose(after, enlarge(before * 0.9, 2))


def test_enlarge():
    image = np.zeros((33, 33, 3), np.float32)
    image[16:, :] = 1
    large = enlarge(image, 3)
    edge = np.abs(large[:, 16, 0] - 0.5).argmin()
    # The edge is half a pixel above the centre, and three times as far from it afterwards.
    assert abs(edge - 15) <= 1
    np.testing.assert_array_equal(enlarge(image, 1), image)


def test_the_guide_is_kept_in_every_frame(net, tmp_path, monkeypatch):
    targets = []
    original = video.Dreamer._gradient

    def note(self, tile):
        targets.append(self._objective._targets)
        return original(self, tile)

    monkeypatch.setattr(video.Dreamer, "_gradient", note)
    dream_video(net, photo(), tmp_path / "a.gif", frames=3, guide=photo(seed=4), **QUICK)
    assert len({id(target) for target in targets}) == 1
    assert targets[0] is not None


def test_progress_counts_all_frames(net, tmp_path):
    calls = []
    dream_video(
        net, photo(), tmp_path / "a.gif", frames=3, progress=lambda *c: calls.append(c), **QUICK
    )
    assert calls == [(n, 6) for n in range(1, 7)]


@pytest.mark.parametrize("ending", [".gif", ".mp4"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_half_written_stays(net, tmp_path, ending, error):
    path = tmp_path / f"dream{ending}"
    path.write_text("the old one")

    def stop(done, total):
        if done == 5:
            raise error

    with pytest.raises(error):
        dream_video(net, photo(), path, frames=4, progress=stop, **QUICK)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "the old one"


@pytest.mark.parametrize("reads", ["", "head -c 1000 > /dev/null\n"])
def test_ffmpeg_fails(net, tmp_path, monkeypatch, reads):
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{reads}echo no space >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(program))
    with pytest.raises(OSError, match="the video cannot be written: no space"):
        dream_video(net, photo(), tmp_path / "a.mp4", frames=3, **QUICK)
    assert [file.name for file in tmp_path.iterdir()] == ["ffmpeg"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "dream.avi"}, r"must end in .mp4, .gif, got '.avi'"),
        ({"path": "dream"}, "must end in"),
        ({"path": "nowhere/dream.gif"}, "there is no folder"),
        ({"frames": 0}, "frames must be an integer of at least 1"),
        ({"zoom": 0.9}, "zoom must be a number of at least 1, got 0.9"),
        ({"fps": 0}, "fps of a GIF must be a number from 0.01 to 50, got 0"),
        ({"fps": 0.001}, "fps of a GIF must be a number from 0.01 to 50, got 0.001"),
        ({"fps": 51}, "fps of a GIF must be a number from 0.01 to 50, got 51"),
        ({"fps": 0, "path": "a.mp4"}, "fps must be a number above 0"),
    ],
)
def test_errors(net, tmp_path, options, message):
    path = tmp_path / options.pop("path", "a.gif")
    with pytest.raises((PictureError, ArgumentError), match=message):
        dream_video(net, photo(), path, **options)
    assert not list(tmp_path.iterdir())
