"""Times the input of a training: photos decoded and augmented, beside torchvision's."""

import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import interleaved
from benchmarks.training.photos import find_photos, write_photos
from benchmarks.training.torchvision import import_transforms

SIZE = 224
SCALE, FLIP = 0.08, 0.5
# The batches that are ready when a round begins are taken out first, and are not timed: workers
# hold a few each.
READY_BATCHES = 12


class Case(NamedTuple):
    """What is loaded.

    Args:
      photos: width and height of the files.
      jitter: the largest change of brightness, contrast and saturation; 0 changes no colours.
      batches: of a round.
      batch: photos in a batch.
      workers: processes.
    """

    photos: tuple[int, int]
    jitter: float
    batches: int
    batch: int = 32
    workers: int = 2

    @property
    def name(self) -> str:
        """What tables call it."""
        width, height = self.photos
        changes = "crop, flip and colours" if self.jitter else "crop and flip"
        return f"{width}x{height}, {changes}, {self.workers} workers"


SMALL, LARGE = (500, 375), (4000, 3000)
PHOTOS = {SMALL: 192, LARGE: 12}
CASES = (Case(SMALL, 0.0, 40), Case(SMALL, 0.4, 40), Case(LARGE, 0.0, 12, batch=8))


def load_ours(case: Case, paths: Sequence[str]) -> Iterator[np.ndarray]:
    """The images of the zoo's batches [N, H, W, C], as `zoo.training.fit` makes them."""
    from zoo.data import Dataset
    from zoo.data.augment import Augmentation
    from zoo.data.pipeline import load_batches
    from zoo.inference.preprocessing import Preprocessing

    many = [*paths] * 1000  # so that shuffling takes no longer than in a data set of usual size
    dataset = Dataset(images=many, labels=np.zeros(len(many), int), classes=("photo", "other"))
    third = (1 / 3,) * 3
    augmentation = Augmentation(
        preprocessing=Preprocessing(SIZE, SIZE, "bilinear", third, third),
        crop_scale=SCALE,
        flip=FLIP,
        color_jitter=case.jitter,
    )
    shape = (SIZE, SIZE, 3)
    for batch in load_batches(
        dataset, augmentation, case.batch, shape, seed=0, workers=case.workers
    ):
        assert batch.read.all(), batch.errors
        yield batch.images


class _TorchPhotos:
    """A data set of photos for PyTorch: what `ImageFolder` does, without looking for files."""

    def __init__(self, paths: Sequence[str], transform: Callable[[Any], Any]) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        with Path(self.paths[index]).open("rb") as file:
            return self.transform(Image.open(file).convert("RGB")), 0


def load_torch(case: Case, paths: Sequence[str]) -> Iterator[Any]:
    """The same by torchvision and PyTorch's DataLoader [N, C, H, W]."""
    import torch

    transforms = import_transforms()
    steps = [
        transforms.RandomResizedCrop(SIZE, (SCALE, 1.0)),
        transforms.RandomHorizontalFlip(FLIP),
        *[transforms.ColorJitter(*3 * (case.jitter,))] * bool(case.jitter),
        transforms.PILToTensor(),
    ]
    dataset: Any = _TorchPhotos(paths, transforms.Compose(steps))
    sampler = torch.utils.data.RandomSampler(dataset, num_samples=1 << 40)  # without end
    loader = torch.utils.data.DataLoader(
        dataset, case.batch, sampler=sampler, num_workers=case.workers
    )
    for images, _ in loader:
        yield images


LOADERS: dict[str, Callable[[Case, Sequence[str]], Iterator[Any]]] = {
    "ours": load_ours,
    "torch": load_torch,
}
PACKAGES = {
    "ours": ("jax", "grain", "albumentations", "pillow"),
    "torch": ("torch", "torchvision", "pillow"),
}


def run_candidate(name: str, folder: Path) -> None:
    """Answers with the seconds of a batch, until its standard input ends."""

    def prepare(workload: str) -> tuple[float, Callable[[], float]]:
        (case,) = (case for case in CASES if case.name == workload)
        batches = LOADERS[name](case, find_photos(folder, case.photos))

        def run_round() -> float:
            return time_batches(batches, case.batches)

        return (READY_BATCHES + case.batches) * run_round(), run_round

    versions = {package: metadata.version(package) for package in PACKAGES[name]}
    interleaved.serve(prepare, {**versions, "python": sys.version.split()[0]})


def time_batches(batches: Iterator[Any], count: int) -> float:
    """The seconds of a batch, over so many that no worker has made before."""
    time.sleep(interleaved.PAUSE_SECONDS)
    _take(batches, READY_BATCHES)
    start = time.perf_counter()
    _take(batches, count)
    return (time.perf_counter() - start) / count


def _take(batches: Iterator[Any], count: int) -> None:
    for _ in itertools.islice(batches, count):
        pass


def measure(
    cases: list[str], rounds: int, longest: float, command: Callable[..., list[str]]
) -> Iterator[tuple[dict[str, Any], dict[str, list[float]], dict[str, dict[str, str]]]]:
    """Each case's row, and by candidate the seconds of a batch and the versions."""
    with tempfile.TemporaryDirectory() as folder:
        for size in {case.photos for case in CASES if case.name in cases}:
            write_photos(Path(folder), size, PHOTOS[size])
        candidates = {name: command("--worker", name, "--folder", folder) for name in LOADERS}
        for case in CASES:
            if case.name not in cases:
                continue
            # With fresh processes: the workers of the last case would still run.
            (measured,) = interleaved.interleave(candidates, rounds, [case.name], longest)
            if measured.refusals:
                raise SystemExit(f"{case.name}: {measured.refusals}")
            row = {"case": case.name, "batch": case.batch}
            yield row, measured.rounds, measured.versions
