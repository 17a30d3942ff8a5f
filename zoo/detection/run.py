"""Detects objects in files: photos, folders of photos, and videos."""

import collections
import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.checkpoints.load import ModelWithWeights, as_trained
from zoo.detection.colors import Color, label_colors
from zoo.detection.detections import Detection
from zoo.detection.draw import draw_detections
from zoo.detection.trained import TrainedDetector
from zoo.inference.batches import list_sources, name_source
from zoo.inference.images import ImageError, ImageSource, is_single_image, load_image
from zoo.inference.video import Video, find_ffmpeg, is_video, open_video, open_writer, read_frames
from zoo.models.suggest import suggest
from zoo.runtime.checks import ArgumentError, check_count, check_number
from zoo.runtime.prefetch import prefetch
from zoo.runtime.progress import Progress
from zoo.visualize.pictures import ENDINGS, save
from zoo_pretrained import spelling


class FileDetections(NamedTuple):
    """What was found in a photo or in a frame of a video, or why it cannot be read.

    Args:
      name: the path of the photo or video; "image 3" for a fourth image that has none.
      size: width and height in pixels; 0 where there is an error.
      detections: the likeliest first.
      frame: its number in a video, from 0; None for a photo.
      picture: the file in which they are drawn. A video's appears behind its last frame.
      error: why the photo, or the rest of the video, cannot be read.
    """

    name: str
    size: tuple[int, int] = (0, 0)
    detections: Sequence[Detection] = ()
    frame: int | None = None
    picture: Path | None = None
    error: ImageError | None = None


class _Job(NamedTuple):
    """A photo or video to look at, and the file to draw in."""

    source: ImageSource
    name: str
    target: Path | None

    @property
    def is_video(self) -> bool:
        return isinstance(self.source, str | os.PathLike) and is_video(self.source)


class _Options(NamedTuple):
    """The arguments of `detect_files` that are alike for all files."""

    detector: TrainedDetector
    threshold: float
    labels: frozenset[str]
    batch_size: int
    progress: Progress | None
    colors: Mapping[str, Color]


def detect_files(
    detector: ModelWithWeights,
    files: ImageSource | Iterable[ImageSource],
    out: str | os.PathLike[str] | None = None,
    *,
    threshold: float = 0.5,
    labels: Iterable[str] | None = None,
    batch_size: int = 1,
    progress: Progress | None = None,
) -> Iterator[FileDetections]:
    """Detects objects in photos and videos, of which few are in memory at a time.

        for found in detect_files(detector, ["photos/", "street.mp4"], out="found"):
            print(found.name, found.frame, found.detections)

    Args:
      detector: what `zoo.trained` returns for a detector, or what `zoo.checkpoints.load.as_trained`
        makes one of: a detector's name, or a pair of its definition and variables.
      files: photos of any kind, folders that are searched for photos, and videos, or one of these.
        Videos need the extra `visualize`.
      out: a folder for pictures and films in which the detections are drawn, each in a colour for
        its class. They are called as their files are; JPEG, PNG and WebP keep their format, other
        photos become PNG and videos MP4. What lies there from an earlier call is replaced, and is
        not looked at where `files` has a folder around it.
      threshold: what is less likely is left out, from 0 to 1.
      labels: the only classes to report; by default all.
      batch_size: how many photos or frames of one shape are computed at once.
      progress: called with the number of photos done and of all; for each video, with the number of
        frames done and of all as far as is known.

    Returns:
      An iterator of photos and of frames of videos, in order. What cannot be read has an error, and
      the others go on.

    Raises:
      ArgumentError: an argument cannot be, or a file would be written over one that is read.
      ImageError: there are no files.
      MissingExtraError: there are videos, and imageio-ffmpeg is not installed.
      OSError: a file cannot be written.
      FloatingPointError: the model computes what is no number.
    """
    check_number("threshold", threshold, 0, 1)
    check_count("batch_size", batch_size)
    trained = as_trained(detector)
    if not isinstance(trained, TrainedDetector):
        raise ArgumentError(f"detector must be a detector, got the model {trained.model.title}")
    trained.require_head()
    known = trained.labels[1:]  # the first is the background's
    wanted = frozenset(known if labels is None else _check_labels(labels, known))
    jobs = _plan(files, None if out is None else Path(out))
    if any(job.is_video for job in jobs):
        find_ffmpeg()
    colors = label_colors(known)
    return _detect(jobs, _Options(trained, threshold, wanted, batch_size, progress, colors))


def _check_labels(labels: Iterable[str], known: tuple[str, ...]) -> list[str]:
    wanted = [labels] if isinstance(labels, str) else list(labels)
    if not wanted:
        raise ArgumentError(f"{spelling.argument('labels')} must name a class at least, got none")
    for label in wanted:
        if label not in known:
            shown = ", ".join(known[:5]) + (" …" if len(known) > 5 else "")
            raise ArgumentError(
                f"{spelling.argument('labels')} must be classes of the detector, got {label!r}; "
                f"{suggest(str(label), known) or f'there are {shown}'}"
            )
    return wanted


def _plan(files: Any, out: Path | None) -> list[_Job]:
    """The photos and videos one by one, with the files to write, none of which is one of them."""
    several = [files] if is_single_image(files) else list(files)
    if out is not None and out.exists() and not out.is_dir():
        raise ArgumentError(f"{spelling.argument('out')} must be a folder, and {out} is a file")
    sources = [source for given in several for source in _search(given, out)]
    sources = sources or list_sources(())
    jobs: list[_Job] = []
    taken: set[str] = set()
    for number, source in enumerate(sources):
        name = name_source(source, number)
        job = _Job(source, name, None)
        if out is not None:
            path = Path(name if isinstance(source, str | os.PathLike) else "photo")
            kept = path.suffix.lower() in ENDINGS
            ending = ".mp4" if job.is_video else path.suffix if kept else ".png"
            job = job._replace(target=out / _choose_name(path.stem, ending, taken))
        jobs.append(job)
    _protect(jobs)
    return jobs


def _search(given: Any, out: Path | None) -> list[ImageSource]:
    """A photo or video as it is, and the photos of a folder but for those in a folder `out`."""
    found: list[Any] = list_sources((given,))
    if out is None or not isinstance(given, str | os.PathLike):
        return found
    written = out.resolve()
    if Path(given).resolve() not in written.parents:
        return found
    return [path for path in found if written not in Path(path).resolve().parents]


def _choose_name(stem: str, ending: str, taken: set[str]) -> str:
    """The first of "cat.jpg", "cat-2.jpg", "cat-3.jpg" … that is not taken yet."""
    name, numbers = f"{stem}{ending}", itertools.count(2)
    while name.casefold() in taken:
        name = f"{stem}-{next(numbers)}{ending}"
    taken.add(name.casefold())
    return name


def _protect(jobs: list[_Job]) -> None:
    """Refuses to write over photos and videos."""
    paths = [job.source for job in jobs if isinstance(job.source, str | os.PathLike)]
    kept = {Path(path).resolve() for path in paths}
    for job in jobs:
        if job.target is not None and job.target.resolve() in kept:
            raise ArgumentError(
                f"{spelling.argument('out')} must be another folder: {job.target} is one of the "
                f"files to look at"
            )


def _detect(jobs: list[_Job], options: _Options) -> Iterator[FileDetections]:
    for has_videos, group in itertools.groupby(jobs, key=lambda job: job.is_video):
        if has_videos:
            for job in group:
                yield from _detect_video(job, options)
        else:
            yield from _detect_photos(list(group), options)


def _detect_photos(jobs: list[_Job], options: _Options) -> Iterator[FileDetections]:
    found = _find(map(_read_photo, jobs), len(jobs), options)
    for done, (job, (image, detections)) in enumerate(zip(jobs, found, strict=True), start=1):
        if options.progress is not None:
            options.progress(done, len(jobs))
        if isinstance(image, ImageError):
            yield _failed(job, image)
            continue
        if job.target is not None:
            job.target.parent.mkdir(parents=True, exist_ok=True)
            save(_draw(image, detections, options), job.target)
        yield FileDetections(job.name, _size(image), detections, picture=job.target)


def _detect_video(job: _Job, options: _Options) -> Iterator[FileDetections]:
    writer: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    try:
        video = open_video(job.name)
        if job.target is not None:
            job.target.parent.mkdir(parents=True, exist_ok=True)
            writer = open_writer(job.target, video.fps, sound=video.path)
        found = _find(_read_frames(video), video.frames or options.batch_size, options)
        with writer as write:
            for number, (image, detections) in enumerate(found):
                if isinstance(image, ImageError):
                    raise image
                if write is not None:
                    write(_draw(image, detections, options))
                if options.progress is not None:
                    options.progress(number + 1, max(video.frames, number + 1))
                yield FileDetections(job.name, _size(image), detections, number, job.target)
    except ImageError as error:
        yield _failed(job, error)


def _find(
    images: Iterable[np.ndarray | ImageError], count: int, options: _Options
) -> Iterator[tuple[np.ndarray | ImageError, list[Detection]]]:
    """Images [H, W, 3] with the detections in them, and errors with none, in order.

    The next images are read while the detector computes.
    """
    waiting: collections.deque[np.ndarray | ImageError] = collections.deque()

    def readable() -> Iterator[np.ndarray]:
        for image in prefetch(images):
            waiting.append(image)
            if not isinstance(image, ImageError):
                yield image

    # For few images it is the next power of two, so that few shapes are compiled.
    batch_size = min(options.batch_size, 1 << (count - 1).bit_length())
    for detections in options.detector.detect_each(
        readable(), threshold=options.threshold, batch_size=batch_size
    ):
        while isinstance(waiting[0], ImageError):
            yield waiting.popleft(), []
        yield waiting.popleft(), [one for one in detections if one.label in options.labels]
    for error in waiting:
        yield error, []


def _read_photo(job: _Job) -> np.ndarray | ImageError:
    try:
        return np.asarray(load_image(job.source))
    except ImageError as error:
        return error


def _read_frames(video: Video) -> Iterator[np.ndarray | ImageError]:
    """A video's frames, and an error where it is damaged."""
    try:
        for pixels in read_frames(video):
            yield np.asarray(load_image(pixels))
    except ImageError as error:
        yield error


def _size(image: np.ndarray) -> tuple[int, int]:
    height, width = image.shape[:2]
    return width, height


def _draw(image: np.ndarray, detections: list[Detection], options: _Options) -> np.ndarray:
    return np.asarray(draw_detections(image, detections, colors=options.colors))


def _failed(job: _Job, error: ImageError) -> FileDetections:
    message = str(error) if job.name in str(error) else f"{job.name}: {error}"
    return FileDetections(job.name, error=ImageError(message))
