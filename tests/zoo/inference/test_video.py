"""Videos that are written and read back; those that other programs write are made by ffmpeg."""

import itertools
import subprocess
import sys

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from zoo.inference.images import ImageError
from zoo.inference.video import (
    check_video,
    find_ffmpeg,
    is_video,
    open_video,
    read_frames,
    write_video,
)
from zoo.runtime.checks import ArgumentError
from zoo.runtime.extras import MissingExtraError

# Of what the codec loses of smooth frames, in levels of 255.
LOSS = 4


def smooth(count=6, height=48, width=64):
    """Frames [count, H, W, 3], uint8, each of other colours."""
    y, x = np.mgrid[:height, :width] / 16
    waves = [np.stack([np.sin(x + t), np.cos(y + t), np.sin(x - y - t)], -1) for t in range(count)]
    return np.uint8(127 + 100 * np.array(waves))


# Four frames of 48x32, 10 a second, as a source of ffmpeg's.
SOURCE = "-loglevel error -f lavfi -i testsrc=size=48x32:rate=10:duration=0.4"


def make(path, words):
    """A video of `SOURCE`, by ffmpeg."""
    subprocess.run([find_ffmpeg(), *f"{SOURCE} {words}".split(), path], check=True)
    return path


def test_an_mp4_is_read_as_it_was_written(tmp_path):
    frames = smooth()
    write_video(tmp_path / "a.mp4", iter(frames), 10)
    video = open_video(tmp_path / "a.mp4")
    assert video == (tmp_path / "a.mp4", 64, 48, 10, 6)
    got = np.array(list(read_frames(video)))
    assert got.shape == frames.shape
    assert np.abs(np.float32(got) - frames).mean(axis=(1, 2, 3)).max() < LOSS
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_a_gif_has_frames_and_their_duration(tmp_path):
    frames = smooth(3)
    write_video(tmp_path / "a.gif", iter(frames), 4)
    with Image.open(tmp_path / "a.gif") as image:
        assert (image.n_frames, image.info["duration"], image.info["loop"]) == (3, 250, 0)
        for number, frame in enumerate(frames):
            image.seek(number)
            # 256 colours: about 6 values of each channel, some 10 levels from a pixel's.
            assert np.abs(np.float32(image.convert("RGB")) - frame).mean() < 15


@pytest.mark.parametrize("fps", [0.5, 24000 / 1001, 30, 60])
def test_fps(tmp_path, fps):
    write_video(tmp_path / "a.mp4", iter(smooth(4)), fps)
    video = open_video(tmp_path / "a.mp4")
    assert video.fps == pytest.approx(fps, rel=1e-4)  # as a fraction of small numbers
    assert video.frames == 4
    assert len(list(read_frames(video))) == 4


def test_odd_sides_become_even(tmp_path):
    frames = smooth(2, 49, 65)
    write_video(tmp_path / "a.mp4", iter(frames), 10)
    video = open_video(tmp_path / "a.mp4")
    assert (video.width, video.height) == (64, 48)
    got = np.float32(list(read_frames(video)))
    assert np.abs(got - frames[:, :48, :64]).mean() < LOSS


@pytest.mark.parametrize("name", ["a:b.mp4", "-a.mp4", "a b%d.mp4", "ä.mp4", "http:a.mp4"])
def test_names_that_ffmpeg_would_take_for_something_else(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = tmp_path.joinpath(name).relative_to(tmp_path)
    write_video(path, iter(smooth(2)), 10)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert len(list(read_frames(open_video(path)))) == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.mov", "-c:v mpeg4"),
        ("a.avi", "-c:v mjpeg -pix_fmt yuvj420p"),
        ("a.webm", "-c:v libvpx-vp9 -pix_fmt yuva420p"),
        ("a.mkv", "-c:v libx264 -pix_fmt yuv444p10le"),
        # Of RGB, as screen recorders and editors write.
        ("a.mp4", "-c:v libx264rgb"),
        ("b.mov", "-c:v png"),
        ("b.avi", "-c:v rawvideo -pix_fmt bgr24"),
    ],
)
def test_formats_of_other_programs(tmp_path, name, words):
    path = make(tmp_path / name, words)
    video = open_video(path)
    assert is_video(path)
    assert video == (path, 48, 32, 10, 4)
    raw = subprocess.run(
        [find_ffmpeg(), *f"{SOURCE} -f rawvideo -pix_fmt rgb24 -".split()],
        capture_output=True,
        check=True,
    ).stdout
    want = np.frombuffer(raw, np.uint8).reshape(4, 32, 48, 3)
    # Sharp edges of colours, at half their resolution.
    assert np.abs(np.float32(list(read_frames(video))) - want).mean() < 16


def test_an_upright_phone_video_is_turned(tmp_path):
    make(tmp_path / "flat.mp4", "-c:v libx264 -pix_fmt yuv420p")
    words = ["-loglevel", "error", "-display_rotation", "90", "-i", tmp_path / "flat.mp4"]
    subprocess.run([find_ffmpeg(), *words, "-c", "copy", tmp_path / "a.mp4"], check=True)
    video = open_video(tmp_path / "a.mp4")
    assert (video.width, video.height) == (32, 48)
    flat = np.float32(list(read_frames(open_video(tmp_path / "flat.mp4"))))
    got = np.float32(list(read_frames(video)))
    np.testing.assert_array_equal(got, np.rot90(flat, 1, axes=(1, 2)))


def list_streams(path):
    """What ffmpeg says of a file."""
    words = [find_ffmpeg(), "-nostdin", "-hide_banner", "-i", path]
    return subprocess.run(words, capture_output=True, check=False).stderr.decode()


def test_sound_is_taken_over(tmp_path):
    make(tmp_path / "a.mp4", "-f lavfi -i sine=duration=0.4")
    write_video(tmp_path / "b.mp4", iter(smooth(4)), 10, sound=tmp_path / "a.mp4")
    assert "Audio: aac" in list_streams(tmp_path / "b.mp4")
    assert len(list(read_frames(open_video(tmp_path / "b.mp4")))) == 4


def test_a_video_of_no_sound_gives_none(tmp_path):
    write_video(tmp_path / "a.mp4", iter(smooth(2)), 10)
    write_video(tmp_path / "b.mp4", iter(smooth(2)), 10, sound=tmp_path / "a.mp4")
    streams = list_streams(tmp_path / "b.mp4")
    assert "Video: h264" in streams
    assert "Audio" not in streams


@pytest.mark.parametrize("name", ["a.mp4", "a.MOV", "b/c.webm", "a.mkv", "a.avi", "a.m4v"])
def test_is_a_video_by_its_name(name):
    assert is_video(name)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "mp4", "a.mp4.jpg", ""])
def test_is_no_video_by_its_name(name):
    assert not is_video(name)


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(ImageError, match=r"a\.mp4 cannot be read: there is no such file"):
        open_video(tmp_path / "a.mp4")
    with pytest.raises(ImageError, match="there is no such file"):
        open_video(tmp_path)


@pytest.mark.parametrize("data", [b"", b"no video", bytes(5000)])
def test_a_file_that_is_no_video(tmp_path, data):
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(ImageError, match=r"a\.mp4 is no video") as caught:
        open_video(tmp_path / "a.mp4")
    assert "\n" not in str(caught.value)


def test_sound_alone_is_no_video(tmp_path):
    words = ["-loglevel", "error", "-f", "lavfi", "-i", "sine=duration=0.2"]
    subprocess.run([find_ffmpeg(), *words, tmp_path / "a.mp4"], check=True)
    with pytest.raises(ImageError, match="is no video"):
        open_video(tmp_path / "a.mp4")


def test_a_truncated_video_gives_its_frames_and_an_error(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), np.uint8)
    write_video(tmp_path / "a.mp4", iter(noise), 10)
    data = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(data[: len(data) // 2])
    frames = []
    with pytest.raises(ImageError, match=r"a\.mp4 is damaged or truncated"):
        frames.extend(read_frames(open_video(tmp_path / "a.mp4")))
    assert 0 < len(frames) < 12


def test_a_reader_that_stops_early_ends_the_program(tmp_path, monkeypatch):
    started = []
    popen = subprocess.Popen

    def note(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    write_video(tmp_path / "a.mp4", iter(np.tile(smooth(), (20, 1, 1, 1))), 10)
    frames = read_frames(open_video(tmp_path / "a.mp4"))
    monkeypatch.setattr(subprocess, "Popen", note)
    assert len(list(itertools.islice(frames, 2))) == 2
    assert started[0].poll() is None or started[0].returncode == 0
    frames.close()
    assert started[0].poll() is not None


@pytest.mark.parametrize("ending", ["mp4", "gif"])
def test_a_failure_leaves_the_old_file(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    path.write_text("the old one")

    def fail():
        yield from smooth(2)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_video(path, fail(), 10)
    assert path.read_text() == "the old one"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_failure_in_the_middle_of_an_mp4_leaves_nothing(tmp_path):
    begun = []

    def fail():
        for frame in itertools.islice(itertools.cycle(smooth()), 1000):
            yield frame
            begun.extend(tmp_path.iterdir())
            if begun:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        write_video(tmp_path / "a.mp4", fail(), 10)
    assert begun
    assert not list(tmp_path.iterdir())


def test_a_failure_of_ffmpeg_is_told(tmp_path, monkeypatch):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\nhead -c 1000 > /dev/null\necho no space >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(program))
    with pytest.raises(OSError, match="the video cannot be written: no space"):
        write_video(tmp_path / "a.mp4", iter(smooth(3)), 10)
    assert [file.name for file in tmp_path.iterdir()] == ["ffmpeg"]


@pytest.mark.parametrize(
    ("name", "fps", "message"),
    [
        ("a.gif", 51, "fps of a GIF must be a number from 0.01 to 50, got 51"),
        ("a.gif", 0, "fps of a GIF must be a number from 0.01 to 50, got 0"),
        ("a.mp4", 0, "fps must be a number above 0, got 0"),
        ("a.mp4", float("nan"), "fps must be a number above 0, got nan"),
    ],
)
def test_frames_per_second_that_cannot_be(tmp_path, name, fps, message):
    with pytest.raises(ArgumentError, match=message):
        check_video(tmp_path / name, fps)


def test_ffmpeg_is_an_extra_that_a_gif_does_not_need(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    check_video(tmp_path / "a.gif", 10)
    write_video(tmp_path / "a.gif", iter(smooth(2)), 10)
    for act in (
        lambda: check_video(tmp_path / "a.mp4", 10),
        lambda: write_video(tmp_path / "a.mp4", iter(smooth(2)), 10),
        lambda: open_video(tmp_path / "a.gif"),
    ):
        with pytest.raises(MissingExtraError, match=r"pip install 'jax-zoo\[visualize\]'"):
            act()
    assert [file.name for file in tmp_path.iterdir()] == ["a.gif"]
