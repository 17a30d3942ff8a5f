"""Photos and videos that are painted, with networks of random styles."""

import io
import subprocess

import jax
import numpy as np
import pytest
from PIL import Image

from tests.zoo.style.small import random_styles
from zoo.inference.images import ImageError
from zoo.inference.video import find_ffmpeg, open_video, read_frames, write_video
from zoo.runtime.checks import ArgumentError
from zoo.style import Styles, apply, apply_all, apply_video
from zoo.style import styles as styles_module
from zoo.style.styles import StyleError
from zoo.visualize.pictures import PictureError
from zoo_pretrained.checkpoint import CheckpointError


@pytest.fixture(scope="module")
def styles():
    """Two, dots and lines."""
    return random_styles(width=1 / 16)


@pytest.fixture(scope="module")
def checkpoint(styles, tmp_path_factory):
    path = tmp_path_factory.mktemp("styles") / "two"
    styles.save(path)
    return path


def photo(height=32, width=48, seed=0, contrast=60):
    """Smooth colours, [H, W, 3], uint8."""
    y, x = np.mgrid[:height, :width] / 8
    waves = np.stack([np.sin(x + seed), np.cos(y), np.sin(x - y + seed)], -1)
    return np.uint8(127 + contrast * waves)


def test_strength_0_is_the_photo(styles):
    np.testing.assert_array_equal(apply(photo(), "dots", styles=styles, strength=0), photo())


def test_half_the_strength_is_the_mean(styles):
    full = apply(photo(), "dots", styles=styles).pixels
    half = apply(photo(), "dots", styles=styles, strength=0.5).pixels
    assert np.abs(np.float32(full) - photo()).mean() > 10
    # Half a level of rounding.
    np.testing.assert_allclose(half, (np.float32(full) + photo()) / 2, atol=0.5)


def test_keep_colors_changes_the_brightness_alone(styles):
    muted = photo(contrast=6)
    painted = apply(muted, "dots", styles=styles).pixels
    kept = apply(muted, "dots", styles=styles, keep_colors=True).pixels
    before, style, after = (
        np.float32(Image.fromarray(pixels).convert("YCbCr")) for pixels in (muted, painted, kept)
    )
    inside = (style[..., 0] > 30) & (style[..., 0] < 225)  # elsewhere colours leave RGB's range
    assert inside.mean() > 0.3
    # To RGB and back is rounded twice.
    np.testing.assert_allclose(
        after[inside], np.stack([style[..., 0], before[..., 1], before[..., 2]], -1)[inside], atol=2
    )


@pytest.mark.parametrize(
    ("given", "size", "expected"),
    [
        ((48, 64), None, (48, 64)),
        ((37, 50), None, (37, 50)),  # no multiples of 4
        ((48, 64), 128, (96, 128)),
        ((96, 64), 48, (48, 32)),
    ],
)
def test_size_is_the_longer_side(styles, given, size, expected):
    picture = apply(photo(*given), "dots", styles=styles, size=size)
    assert picture.pixels.shape == (*expected, 3)


def test_a_resized_photo_is_painted(styles):
    small = np.asarray(Image.fromarray(photo(64, 96)).resize((48, 32), Image.Resampling.LANCZOS))
    got = apply(photo(64, 96), "dots", styles=styles, size=48).pixels
    np.testing.assert_array_equal(got, apply(small, "dots", styles=styles).pixels)


def test_a_blend_has_the_weighted_norms(styles):
    def mix(path, leaf):
        if path[-1].key not in ("scale", "shift"):
            return leaf
        return 0.25 * leaf[:1] + 0.75 * leaf[1:]

    variables = jax.tree_util.tree_map_with_path(mix, styles.variables)
    mixed = Styles(styles.network.clone(styles=1), variables, ("mixed",))
    got = apply(photo(), {"dots": 1, "lines": 3}, styles=styles)
    # Sums are taken in another order, which may round a pixel the other way.
    np.testing.assert_allclose(np.float32(got), np.float32(apply(photo(), mixed)), atol=1)
    assert got.title == "dots + lines"


def test_each_way_to_name_a_style(styles, checkpoint, monkeypatch):
    want = apply(photo(), "lines", styles=styles).pixels
    np.testing.assert_array_equal(apply(photo(), "lines", styles=checkpoint), want)
    monkeypatch.setattr(styles_module, "_load_embedded", lambda: styles)
    np.testing.assert_array_equal(apply(photo(), "lines"), want)
    one = Styles(
        styles.network.clone(styles=1),
        jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf[1:] if path[-1].key in ("scale", "shift") else leaf,
            styles.variables,
        ),
        ("mine",),
    )
    one.save(checkpoint.with_name("one"), overwrite=True)
    for style in (one, checkpoint.with_name("one"), str(checkpoint.with_name("one"))):
        # Another program, which may round a pixel the other way.
        np.testing.assert_allclose(np.float32(apply(photo(), style)), want, atol=1)
    np.testing.assert_allclose(np.float32(apply(photo(), styles=one)), want, atol=1)


@pytest.mark.parametrize(
    ("style", "options", "error", "message"),
    [
        ("dot", {}, StyleError, "no style 'dot'; there are dots, lines; did you mean dots"),
        ("runs/none", {}, StyleError, "nor is it a checkpoint"),
        (None, {}, StyleError, "dots, lines"),
        ({"dots": 1, "wave": 1}, {}, StyleError, "no style 'wave'"),
        ({"dots": 0}, {}, ArgumentError, "above 0"),
        ("dots", {"strength": 2}, ArgumentError, "strength must be a number from 0 to 1, got 2"),
        ("dots", {"strength": np.nan}, ArgumentError, "strength must be a number from 0 to 1"),
        ("dots", {"size": 31}, ArgumentError, "size must be an integer of at least 32, got 31"),
        ("dots", {"size": 64.0}, ArgumentError, "size must be an integer"),
        ("dots", {"size": 16385}, ArgumentError, "size must be at most 16384, got 16385"),
        ("dots", {"tile": 224}, ArgumentError, "tile must be an integer of at least 256"),
        ("dots", {"tile": 300}, ArgumentError, "tile must be a multiple of 32, got 300"),
        ("dots", {"styles": "nowhere"}, CheckpointError, "nowhere"),
    ],
)
def test_errors(styles, monkeypatch, style, options, error, message):
    monkeypatch.setattr(styles_module, "_load_embedded", lambda: styles)
    with pytest.raises(error, match=message):
        apply(photo(), style, **options)


def test_a_photo_that_is_too_small(styles):
    with pytest.raises(ImageError, match="48x31 pixels; at least 32 a side are needed"):
        apply(photo(31, 48), "dots", styles=styles)


def test_a_photo_that_is_too_narrow_at_its_new_size(styles):
    with pytest.raises(ImageError, match="the photo has 1024x16 pixels; at least 32"):
        apply(photo(8, 512), "dots", styles=styles, size=1024)


def test_no_photo(styles, tmp_path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(ImageError, match=r"a\.png is not an image"):
        apply(tmp_path / "a.png", "dots", styles=styles)


def test_all_photos_of_a_folder_in_order(styles, tmp_path):
    for number, name in enumerate(("c", "a", "d")):
        Image.fromarray(photo(seed=number)).save(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_text("no image")
    calls = []
    painted = list(
        apply_all(tmp_path, "dots", styles=styles, progress=lambda *call: calls.append(call))
    )
    assert [name for name, _, _ in painted] == [str(tmp_path / f"{name}.png") for name in "abcd"]
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert painted[1].picture is None
    assert "b.png is not an image" in str(painted[1].error)
    for place, seed in ((0, 1), (2, 0), (3, 2)):
        want = apply(photo(seed=seed), "dots", styles=styles).pixels
        np.testing.assert_array_equal(painted[place].picture, want)
        assert painted[place].error is None


def test_small_photos_among_others_are_errors_too(styles):
    painted = list(apply_all([photo(20, 20), photo()], "dots", styles=styles))
    assert [name for name, _, _ in painted] == ["image 0", "image 1"]
    assert "20x20 pixels" in str(painted[0].error)
    assert painted[1].picture is not None


def test_options_reach_all_photos(styles):
    (painted,) = apply_all([photo()], "dots", styles=styles, strength=0, size=96)
    want = np.asarray(Image.fromarray(photo()).resize((96, 64), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(painted.picture, want)


def test_no_photos_at_all(styles):
    with pytest.raises(ImageError, match="no images"):
        apply_all([], "dots", styles=styles)


def test_wrong_arguments_are_told_before_a_photo_is_read(styles):
    unread = io.BytesIO(b"no image")
    with pytest.raises(ArgumentError, match="size"):
        apply_all([unread], "dots", styles=styles, size=1)
    with pytest.raises(StyleError, match="no style"):
        apply_all([unread], "stripes", styles=styles)
    assert unread.tell() == 0


COUNT = 5  # of frames: a full group and a part of one


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A video with sound."""
    folder = tmp_path_factory.mktemp("clip")
    frames = (photo(32, 48, seed=number / 4) for number in range(COUNT))
    write_video(folder / "silent.mp4", frames, 10)
    sound = ["-f", "lavfi", "-i", "sine=frequency=440:duration=0.5"]
    words = [find_ffmpeg(), "-loglevel", "error", "-i", folder / "silent.mp4", *sound]
    subprocess.run([*words, "-c:v", "copy", "-c:a", "aac", folder / "clip.mp4"], check=True)
    return folder / "clip.mp4"


def test_an_mp4_has_each_frame_painted(styles, clip, tmp_path):
    path = apply_video(clip, tmp_path / "out.mp4", "dots", styles=styles)
    assert path == tmp_path / "out.mp4"
    video = open_video(path)
    assert (video.width, video.height, video.fps) == (48, 32, 10)
    got = np.float32(list(read_frames(video)))
    frames = list(read_frames(open_video(clip)))
    want = np.float32([apply(frame, "dots", styles=styles).pixels for frame in frames])
    assert len(want) == COUNT
    # The codec halves the resolution of colours; painted frames are farther from others.
    wrong = np.abs(got - want[::-1])[[0, -1]].mean()
    assert np.abs(got - want).mean(axis=(1, 2, 3)).max() < wrong / 2
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]


def test_a_gif_has_each_frame_painted(styles, clip, tmp_path):
    apply_video(clip, tmp_path / "out.gif", {"lines": 1}, styles=styles, strength=0.5)
    frames = list(read_frames(open_video(clip)))
    with Image.open(tmp_path / "out.gif") as image:
        assert (image.n_frames, image.info["duration"]) == (COUNT, 100)
        for number, frame in enumerate(frames):
            image.seek(number)
            want = apply(frame, "lines", styles=styles, strength=0.5).pixels
            # A GIF has 256 colours, which are some 6 levels from a pixel's.
            assert np.abs(np.float32(image.convert("RGB")) - want).mean() < 12


def read_sound(path):
    """Samples at 8 kHz; b"" without sound."""
    words = f"-loglevel error -i {path} -map 0:a? -f s16le -ac 1 -ar 8000 -".split()
    data = subprocess.run([find_ffmpeg(), *words], capture_output=True, check=False).stdout
    return np.frombuffer(data, np.int16)


def test_sound_is_kept(styles, clip, tmp_path):
    apply_video(clip, tmp_path / "out.mp4", "dots", styles=styles)
    samples = read_sound(tmp_path / "out.mp4")
    assert 0.4 < len(samples) / 8000 < 0.7
    loudest = np.abs(np.fft.rfft(samples)).argmax() * 8000 / len(samples)
    assert abs(loudest - 440) < 5


def test_a_video_without_sound(styles, clip, tmp_path):
    apply_video(clip.with_name("silent.mp4"), tmp_path / "out.mp4", "dots", styles=styles)
    assert not len(read_sound(tmp_path / "out.mp4"))


def test_a_video_is_resized_and_its_sides_become_even(styles, clip, tmp_path):
    apply_video(clip, tmp_path / "out.mp4", "dots", styles=styles, size=64)  # 64x43
    video = open_video(tmp_path / "out.mp4")
    assert (video.width, video.height) == (64, 42)


def test_progress_counts_frames(styles, clip, tmp_path):
    calls = []
    apply_video(
        clip, tmp_path / "a.gif", "dots", styles=styles, progress=lambda *call: calls.append(call)
    )
    assert calls == [(4, 5), (5, 5)]


@pytest.mark.parametrize("ending", ["mp4", "gif"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_half_written_stays(styles, clip, tmp_path, ending, error):
    path = tmp_path / f"out.{ending}"
    path.write_text("the old one")

    def stop(done, total):
        raise error

    with pytest.raises(error):
        apply_video(clip, path, "dots", styles=styles, progress=stop)
    assert path.read_text() == "the old one"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_truncated_video_is_an_error_and_writes_nothing(styles, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), np.uint8)
    write_video(tmp_path / "cut.mp4", iter(noise), 10)
    data = (tmp_path / "cut.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"cut\.mp4 is damaged or truncated"):
        apply_video(tmp_path / "cut.mp4", tmp_path / "out.mp4", "dots", styles=styles)
    assert [file.name for file in tmp_path.iterdir()] == ["cut.mp4"]


@pytest.mark.parametrize(
    ("video", "path", "options", "error", "message"),
    [
        ("text.mp4", "a.mp4", {}, ImageError, r"text\.mp4 is no video"),
        ("none.mp4", "a.mp4", {}, ImageError, r"none\.mp4 cannot be read: there is no such file"),
        ("small.mp4", "a.mp4", {}, ImageError, "at least 32 a side"),
        ("small.mp4", "a.avi", {}, PictureError, r"must end in .mp4, .gif, got '.avi'"),
        ("small.mp4", "b/a.mp4", {}, PictureError, "there is no folder"),
        ("small.mp4", "a.mp4", {"strength": -1}, ArgumentError, "strength"),
        ("small.mp4", "a.mp4", {"size": 3}, ArgumentError, "size"),
        ("fast.mp4", "a.gif", {}, ArgumentError, "fps of a GIF must be a number from 0.01 to 50"),
    ],
)
def test_wrong_videos(styles, tmp_path, video, path, options, error, message):
    (tmp_path / "text.mp4").write_text("no video")
    for name, fps in (("small", 10), ("fast", 60)):
        write_video(tmp_path / f"{name}.mp4", iter([photo(16, 16)] * 3), fps)
    with pytest.raises(error, match=message):
        apply_video(tmp_path / video, tmp_path / path, "dots", styles=styles, **options)
    assert not list(tmp_path.glob("*a.*"))
