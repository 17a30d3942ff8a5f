"""Times libraries of augmentation on photos that are decoded: crop, flip and changes of colour.

Each runs on one core. albumentations and torchvision change one photo after the other. dm_pix and
augmax are compiled by jax and change a batch, all of whose photos must be of one size; dm_pix has
no crop that is resized, so that `jax.image.scale_and_translate` makes it.
"""

import importlib
import os
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import interleaved
from benchmarks.training.photos import open_examples
from benchmarks.training.torchvision import import_transforms

SIZE, BATCH, JITTER = 224, 32, 0.4
HEIGHT, WIDTH = 375, 500
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
CASES = {"crop and flip": False, "crop, flip and colours": True}


def make_photos() -> np.ndarray:
    """The example photos at one size, over and over [N, H, W, 3]."""
    images = [photo.resize((WIDTH, HEIGHT)) for photo in open_examples()]
    return np.stack([np.asarray(images[i % len(images)]) for i in range(BATCH)])


def change_by_albumentations(colors: bool) -> Callable[[], Any]:
    """One photo after the other, as arrays → [N, H, W, 3]."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import cv2

    a = importlib.import_module("albumentations")
    cv2.setNumThreads(0)
    low_and_high = (1 - JITTER, 1 + JITTER)
    jitter = a.ColorJitter(low_and_high, low_and_high, low_and_high, (0, 0), p=1.0)
    # The others smooth what they make smaller, too.
    crop = a.RandomResizedCrop((SIZE, SIZE), SCALE, RATIO, area_for_downscale="image")
    change = a.Compose([crop, a.HorizontalFlip(p=0.5), *[jitter] * colors], seed=0)
    photos = make_photos()
    return lambda: np.stack([change(image=photo)["image"] for photo in photos])


def change_by_torchvision(colors: bool) -> Callable[[], Any]:
    """One photo after the other, as PIL images → [N, 3, H, W]."""
    import torch
    from PIL import Image

    transforms = import_transforms()
    torch.set_num_threads(1)
    steps = [
        transforms.RandomResizedCrop(SIZE, SCALE, RATIO),
        transforms.RandomHorizontalFlip(0.5),
        *[transforms.ColorJitter(JITTER, JITTER, JITTER)] * colors,
        transforms.PILToTensor(),
    ]
    change = transforms.Compose(steps)
    photos = [Image.fromarray(photo) for photo in make_photos()]
    return lambda: torch.stack([change(photo) for photo in photos])


def change_by_dm_pix(colors: bool) -> Callable[[], Any]:
    """A batch, in a program of jax's → [N, H, W, 3], from 0 to 1."""
    import dm_pix
    import jax
    import jax.numpy as jnp

    def change(key: Any, photo: Any) -> Any:
        keys = iter(jax.random.split(key, 7))
        whole = jnp.array([HEIGHT, WIDTH])
        area = jax.random.uniform(next(keys), (), minval=SCALE[0]) * HEIGHT * WIDTH
        low, high = np.log(RATIO)
        ratio = jnp.exp(jax.random.uniform(next(keys), (), minval=low, maxval=high))
        sides = jnp.minimum(jnp.sqrt(jnp.stack([area / ratio, area * ratio])), whole)
        scale = SIZE / sides
        shift = -scale * jax.random.uniform(next(keys), (2,)) * (whole - sides)
        shape = (SIZE, SIZE, 3)
        photo = jax.image.scale_and_translate(photo / 255, shape, (0, 1), scale, shift, "linear")
        photo = dm_pix.random_flip_left_right(next(keys), photo)
        if colors:
            photo = dm_pix.random_brightness(next(keys), photo, JITTER)
            photo = dm_pix.random_contrast(next(keys), photo, 1 - JITTER, 1 + JITTER)
            photo = dm_pix.random_saturation(next(keys), photo, 1 - JITTER, 1 + JITTER)
        return photo

    return _change_batch(change)


def change_by_augmax(colors: bool) -> Callable[[], Any]:
    """A batch, in a program of jax's → [N, H, W, 3], from 0 to 1."""
    augmax = importlib.import_module("augmax")
    steps = [
        augmax.RandomSizedCrop(SIZE, SIZE),
        augmax.HorizontalFlip(p=0.5),
        augmax.ByteToFloat(),
        *[augmax.ColorJitter(JITTER, JITTER, JITTER, 0.0, p=1.0)] * colors,
    ]
    return _change_batch(augmax.Chain(*steps))


def _change_batch(change: Callable[[Any, Any], Any]) -> Callable[[], Any]:
    import jax

    photos = jax.device_put(make_photos())
    numbers = iter(range(1 << 30))

    @jax.jit
    def change_all(number: Any, photos: Any) -> Any:
        keys = jax.random.split(jax.random.key(number), len(photos))
        return jax.vmap(change)(keys, photos)

    return lambda: change_all(next(numbers), photos).block_until_ready()


LIBRARIES = {
    "albumentations": change_by_albumentations,
    "torch": change_by_torchvision,
    "dm_pix": change_by_dm_pix,
    "augmax": change_by_augmax,
}
PACKAGES = {
    "albumentations": ("albumentations", "opencv-python-headless"),
    "torch": ("torch", "torchvision"),
    "dm_pix": ("dm_pix", "jax"),
    "augmax": ("augmax", "jax"),
}


def run_candidate(name: str, folder: Path) -> None:
    """Answers with the seconds of a batch, until its standard input ends."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    versions = {package: metadata.version(package) for package in PACKAGES[name]}
    make = LIBRARIES[name]
    interleaved.serve_wall_times(lambda workload: make(CASES[workload]), versions)


def measure(
    cases: list[str], rounds: int, longest: float, command: Callable[..., list[str]]
) -> Iterator[tuple[dict[str, Any], dict[str, list[float]], dict[str, dict[str, str]]]]:
    """Each case's row, and by candidate the seconds of a batch and the versions."""
    missing = find_missing()
    candidates = {name: command("--worker", name) for name in LIBRARIES if name not in missing}
    measurements = interleaved.interleave(candidates, rounds, cases, longest)
    for name, measured in zip(cases, measurements, strict=True):
        row = {"case": name, "batch": BATCH, "refusals": {**missing, **measured.refusals}}
        yield row, measured.rounds, measured.versions


def find_missing() -> dict[str, str]:
    """The libraries that are not installed, each with what to do."""
    missing = {}
    for name, packages in PACKAGES.items():
        try:
            for package in packages:
                metadata.version(package)
        except metadata.PackageNotFoundError as error:
            missing[name] = f"it needs the package {error.name}"
    return missing
