"""Videos that zoom into a dream, each frame dreamt from the one before."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Unpack

import numpy as np

from zoo.checkpoints.load import ModelWithWeights
from zoo.deep_dream.dream import Dreamer, DreamOptions, make_dreamer
from zoo.deep_dream.objectives import Layers
from zoo.deep_dream.octaves import resize
from zoo.inference.images import ImageSource
from zoo.inference.video import VIDEO_ENDINGS, check_video, write_video
from zoo.runtime.checks import check_count, check_number
from zoo.runtime.progress import Progress, shift_progress
from zoo.visualize.pictures import check_ending

FRAMES, ZOOM, FPS = 60, 1.05, 15.0


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
    check_video(path, fps)
    progress = options.pop("progress", None)
    dreamer = make_dreamer(model, image, layers, options)

    def report(frame: int) -> Progress | None:
        steps = dreamer.settings.total_steps
        return shift_progress(progress, frame * steps, frames * steps)

    write_video(path, _dream_frames(dreamer, frames, zoom, report), fps)
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
