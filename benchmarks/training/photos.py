"""JPEG files like those of a data set of photos, cut out of the few of `examples/`."""

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.harness.recording import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.jpg"))
QUALITY = 95


def open_examples() -> list[Image.Image]:
    """The photos of `examples/`, decoded."""
    examples = []
    for path in EXAMPLES:
        with Image.open(path) as image:
            examples.append(image.convert("RGB"))
    return examples


def write_photos(folder: Path, size: tuple[int, int], count: int) -> list[str]:
    """Writes photos of one size, most of them wide, each a random part of an example.

    A little noise stands for the detail that enlarging does not make: those of 500x375 have about
    90,000 bytes, nearly as many as ImageNet's.

    Returns:
      Their paths.
    """
    random = np.random.default_rng(0)
    examples = open_examples()
    paths = []
    for number in range(count):
        example = examples[number % len(examples)]
        width, height = size if number % 4 else size[::-1]
        scale = random.uniform(0.7, 1) * min(example.width / width, example.height / height)
        left, top = (
            random.uniform(0, side - scale * part)
            for side, part in zip(example.size, (width, height), strict=True)
        )
        box = (left, top, left + scale * width, top + scale * height)
        pixels = np.asarray(example.resize((width, height), Image.Resampling.BICUBIC, box))
        noisy = pixels + random.normal(0, 6, pixels.shape).astype(np.float32)
        paths.append(str(folder / f"{size[0]}x{size[1]}-{number:04}.jpg"))
        Image.fromarray(np.uint8(noisy.clip(0, 255))).save(paths[-1], quality=QUALITY)
    return paths


def find_photos(folder: Path, size: tuple[int, int]) -> list[str]:
    """The paths that `write_photos` gave."""
    return sorted(map(str, folder.glob(f"{size[0]}x{size[1]}-*.jpg")))
