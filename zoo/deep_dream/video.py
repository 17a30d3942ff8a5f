"""Videos that zoom into a dream, each frame dreamt from the one before."""

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Unpack

import numpy as np
from PIL import Image

from zoo.checkpoints.load import ModelWithWeights
from zoo.deep_dream.dream import Dreamer, DreamOptions, make_dreamer
from zoo.deep_dream.objectives import Layers
from zoo.deep_dream.octaves import resize
from zoo.inference.images import ImageSource
from zoo.runtime.checks import check_count, check_number
from zoo.runtime.extras import require
from zoo.runtime.progress import Progress, shift_progress
from zoo.visualize.pictures import check_ending

VIDEO_ENDINGS = (".mp4", ".gif")
FRAMES, ZOOM, FPS = 60, 1.05, 15.0
# A GIF's durations are whole hundredths of a second, two to 65535 of which viewers obey.
GIF_FPS = 0.01, 50.0
# Of H.264, from 0 (best) to 51: a dream is all detail, which compression blurs.
CRF = 18


def dream_video(
    model: ModelWithWeights,
    image: ImageSource | None,
    path: str | os.PathLike[str],
    *,
    layers: Layers | None = None,
    frames: int = FRAMES,
    zoom: float = ZOOM,
    fps: float = FPS,
    **options: Unpack[DreamOptions],
) -> Path:
    """Writes a video that zooms into a dream: each frame is dreamt from the middle of the last one.

    A guide is kept in every frame. The file appears complete or not at all. MP4 needs
    imageio-ffmpeg, which the extra `visualize` installs; GIF needs nothing.

    Args:
      model: as of `dream`.
      image: as of `dream`; the first frame is its dream.
      path: of the file to write, ending in ".mp4" or ".gif".
      layers: as of `dream`.
      frames: how many.
      zoom: by how much each frame is enlarged for the next one; 1 is not at all.
      fps: frames per second; of a GIF from 0.01 to 50, rounded to whole hundredths of a second for
        a frame.
      **options: further arguments of `dream`. Of `progress` the steps of all frames are counted.

    Returns:
      The path.

    Raises:
      PictureError: the path has another ending, or as `dream`.
      ArgumentError: a number has another type or range.
      MissingExtraError: imageio-ffmpeg is not installed.
      LayerError, ImageError: as `dream`.
      OSError: the file cannot be written.
    """
    path = check_ending(path, VIDEO_ENDINGS)
    check_count("frames", frames, 1)
    check_number("zoom", zoom, 1)
    is_gif = path.suffix.lower() == ".gif"
    if is_gif:
        check_number("fps of a GIF", fps, *GIF_FPS)
    check_number("fps", fps, included=False)
    write = _write_gif if is_gif else _find_mp4_writer()
    progress = options.pop("progress", None)
    dreamer = make_dreamer(model, image, layers, options)

    def report(frame: int) -> Progress | None:
        steps = dreamer.settings.total_steps
        return shift_progress(progress, frame * steps, frames * steps)

    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(beside, _dream_frames(dreamer, frames, zoom, report), fps)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def _dream_frames(
    dreamer: Dreamer, frames: int, zoom: float, report: Callable[[int], Progress | None]
) -> Iterator[np.ndarray]:
    """Yields pixels [H, W, 3], uint8."""
    image = dreamer.image
    for frame in range(frames):
        if frame:
            image = enlarge(image, zoom)
        image = dreamer.run(image, report(frame))
        yield dreamer.to_picture(image).pixels


def enlarge(image: np.ndarray, zoom: float) -> np.ndarray:
    """The middle of an image [H, W, C] from 0 to 1, enlarged to its size by a factor."""
    height, width, _ = image.shape
    top, left = ((side - side / zoom) / 2 for side in (height, width))
    return np.clip(resize(image, height, width, (left, top, width - left, height - top)), 0, 1)


def _write_gif(path: Path, frames: Iterator[np.ndarray], fps: float) -> None:
    first, *rest = (Image.fromarray(pixels).quantize() for pixels in frames)
    first.save(path, save_all=True, append_images=rest, duration=10 * round(100 / fps), loop=0)


def _find_mp4_writer() -> Callable[[Path, Iterator[np.ndarray], float], None]:
    # The library's own function forks, which jax warns of; its program is all that is needed.
    ffmpeg = require("imageio_ffmpeg", "visualize")
    try:
        program = ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise OSError(f"MP4 needs a working ffmpeg: {error}") from error

    def write(path: Path, frames: Iterator[np.ndarray], fps: float) -> None:
        first = next(frames)
        # The usual colour format halves the resolution of colour, and takes even sides.
        height, width = (side - side % 2 for side in first.shape[:2])
        source = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {fps} -i -"
        coding = f"-c:v libx264 -pix_fmt yuv420p -crf {CRF} -movflags +faststart"
        command = [program, "-loglevel", "error", *source.split(), *coding.split(), "-y"]
        command.append(f"file:{path}")  # or a colon would end the name of a protocol
        # In a session of its own, Ctrl-C stops it through this process alone.
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        ) as process:
            try:
                for pixels in itertools.chain([first], frames):
                    if not _send(process, pixels[:height, :width]):
                        break
                _, message = process.communicate()
            except BaseException:
                process.kill()
                process.communicate()
                raise
        if process.returncode:
            raise OSError(f"the video cannot be written: {message.decode(errors='replace')}")

    return write


def _send(process: subprocess.Popen[bytes], pixels: np.ndarray) -> bool:
    """Hands ffmpeg a frame; False if it has ended."""
    assert process.stdin is not None
    try:
        process.stdin.write(np.ascontiguousarray(pixels).tobytes())
    except BrokenPipeError:
        return False
    return True
