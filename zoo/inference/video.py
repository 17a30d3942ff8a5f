"""Reads and writes videos: MP4 and others by ffmpeg, GIF without it."""

import contextlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from zoo.inference.images import ImageError
from zoo.runtime.checks import check_number
from zoo.runtime.extras import require
from zoo_pretrained.printable import printable

# What is written.
VIDEO_ENDINGS = (".mp4", ".gif")
# What is taken for a video, rather than for a photo.
READ_ENDINGS = (".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi")
# A GIF's durations are whole hundredths of a second, two to 65535 of which viewers obey.
GIF_FPS = 0.01, 50.0
# Of H.264, from 0 (best) to 51: dreams and paintings are all detail, which compression blurs.
CRF = 18

# Takes the next frame, [H, W, 3] uint8.
WriteFrame = Callable[[np.ndarray], None]


class Video(NamedTuple):
    """Facts about a video that is to be read.

    Args:
      path: of the file.
      width, height: in pixels.
      fps: frames per second.
      frames: how many there are, nearly.
    """

    path: Path
    width: int
    height: int
    fps: float
    frames: int


def write_video(
    path: Path, frames: Iterator[np.ndarray], fps: float, sound: Path | None = None
) -> None:
    """Writes a video that appears complete or not at all.

    Args:
      path: ends in one of `VIDEO_ENDINGS`.
      frames: [H, W, 3], uint8; asked for when the file can be written.
      fps: frames per second, of a GIF from 0.01 to 50.
      sound: a video whose sound an MP4 gets, if it has any.

    Raises:
      MissingExtraError: MP4 needs imageio-ffmpeg, which is not installed.
      OSError: the file cannot be written.
    """
    with open_writer(path, fps, sound) as write:
        for pixels in frames:
            write(pixels)


@contextlib.contextmanager
def open_writer(path: Path, fps: float, sound: Path | None = None) -> Iterator[WriteFrame]:
    """Yields a function to call on each frame of a video that is written: see `write_video`.

    The video appears at the end of the `with` block, unless that ends by an error.
    """
    is_gif = path.suffix.lower() == ".gif"
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    writer = _write_gif(beside, fps) if is_gif else _write_mp4(find_ffmpeg(), beside, fps, sound)
    try:
        with writer as write:
            yield write
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def check_video(path: Path, fps: float) -> None:
    """Checks what can be checked of a video that is to be written, before anything is computed.

    Raises:
      ArgumentError: it cannot have so many frames per second.
      MissingExtraError, OSError: as `find_ffmpeg`.
    """
    if path.suffix.lower() == ".gif":
        check_number("fps of a GIF", fps, *GIF_FPS)
    else:
        find_ffmpeg()
    check_number("fps", fps, included=False)


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a path's ending is a video's."""
    return Path(path).suffix.lower() in READ_ENDINGS


def open_video(path: str | os.PathLike[str]) -> Video:
    """Finds out a video's size and speed.

    Raises:
      ImageError: the file is missing, or no video.
      MissingExtraError: imageio-ffmpeg is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"{path} cannot be read: there is no such file")
    # The header of this format has all that is needed. It takes few formats of pixels.
    coding = "-frames:v 1 -pix_fmt yuv444p -strict -1 -f yuv4mpegpipe"
    command = [*_reading(path), *coding.split(), "-"]
    process = subprocess.run(command, capture_output=True, check=False)
    header = process.stdout.partition(b"\n")[0].decode(errors="replace")
    fields = re.search(r"W(\d+) H(\d+) F(\d+):(\d+)", header)
    if fields is None:
        raise ImageError(f"{path} is no video: {_last_line(process.stderr)}")
    width, height, frames, seconds = map(int, fields.groups())
    fps = frames / max(seconds, 1)
    return Video(path, width, height, fps, round(_find_duration(path) * fps))


def _find_duration(path: Path) -> float:
    """Seconds, as ffmpeg reports them of a file; 0 if it does not know."""
    command = [find_ffmpeg(), "-nostdin", "-hide_banner", "-i", f"file:{path}"]
    report = subprocess.run(command, capture_output=True, check=False).stderr.decode(
        errors="replace"
    )
    found = re.search(r"Duration: (\d+):(\d+):([\d.]+)", report)
    if found is None:
        return 0.0
    hours, minutes, seconds = (float(part) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def read_frames(video: Video) -> Iterator[np.ndarray]:
    """Yields a video's frames, [H, W, 3], uint8.

    Raises:
      ImageError: the video is damaged; the frames before were yielded.
    """
    # Without -xerror ffmpeg ends a truncated file as if it were whole.
    coding = f"-xerror -f rawvideo -pix_fmt rgb24 -r {video.fps} -".split()
    size = video.height * video.width * 3
    with subprocess.Popen(
        [*_reading(video.path), *coding],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            while len(data := process.stdout.read(size)) == size:
                yield np.frombuffer(data, np.uint8).reshape(video.height, video.width, 3)
            if data or process.wait():
                raise ImageError(f"{video.path} is damaged or truncated")
        finally:
            process.kill()


def _reading(path: Path) -> list[str]:
    return [find_ffmpeg(), "-nostdin", "-loglevel", "error", "-i", f"file:{path}"]


def _last_line(message: bytes) -> str:
    lines = message.decode(errors="replace").strip().splitlines()
    return printable(lines[-1] if lines else "ffmpeg reads no frame of it")


def find_ffmpeg() -> str:
    """The path of the program ffmpeg that imageio-ffmpeg brings.

    Its functions fork, which jax warns of; the program is all that is needed.

    Raises:
      MissingExtraError: imageio-ffmpeg is not installed.
      OSError: it does not work.
    """
    try:
        program: str = require("imageio_ffmpeg", "visualize").get_ffmpeg_exe()
    except RuntimeError as error:
        raise OSError(f"videos need a working ffmpeg: {error}") from error
    return program


@contextlib.contextmanager
def _write_gif(path: Path, fps: float) -> Iterator[WriteFrame]:
    frames: list[Image.Image] = []
    yield lambda pixels: frames.append(Image.fromarray(pixels).quantize())
    first, *rest = frames
    first.save(path, save_all=True, append_images=rest, duration=10 * round(100 / fps), loop=0)


@contextlib.contextmanager
def _write_mp4(program: str, path: Path, fps: float, sound: Path | None) -> Iterator[WriteFrame]:
    with contextlib.ExitStack() as stack:
        write: WriteFrame | None = None

        def write_frame(pixels: np.ndarray) -> None:
            nonlocal write
            # The usual colour format halves the resolution of colour, and takes even sides.
            height, width = (side - side % 2 for side in pixels.shape[:2])
            if write is None:
                command = _coding(program, path, (width, height), fps, sound)
                write = stack.enter_context(_run(command))
            write(pixels[:height, :width])

        yield write_frame


def _coding(
    program: str, path: Path, size: tuple[int, int], fps: float, sound: Path | None
) -> list[str]:
    """The command that writes an MP4 of frames of some width and height."""
    width, height = size
    command = [program, "-loglevel", "error"]
    command += f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {fps} -i -".split()
    if sound is not None:
        command += ["-i", f"file:{sound}", *["-map", "0:v", "-map", "1:a?", "-c:a", "aac"]]
    command += f"-c:v libx264 -pix_fmt yuv420p -crf {CRF} -movflags +faststart -y".split()
    return [*command, f"file:{path}"]  # or a colon would end the name of a protocol


@contextlib.contextmanager
def _run(command: Sequence[str]) -> Iterator[WriteFrame]:
    """Yields a function that hands ffmpeg a frame; OSError with its message if it fails."""
    # In a session of its own, Ctrl-C stops it through this process alone.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdin is not None
        stdin = process.stdin

        def finish() -> None:
            _, message = process.communicate()
            if process.returncode:
                raise OSError(f"the video cannot be written: {message.decode(errors='replace')}")

        def write(pixels: np.ndarray) -> None:
            try:
                stdin.write(np.ascontiguousarray(pixels).tobytes())
            except BrokenPipeError:
                finish()  # it has ended, and says why
                raise

        try:
            yield write
            finish()
        except BaseException:
            process.kill()
            process.communicate()
            raise
