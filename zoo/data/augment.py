"""Images in training: decoded, cropped and changed at random, by albumentations.

It was chosen over dm_pix and augmax, which run on the device: on a CPU that takes time from the
model, and crops of any size are not for compiled programs. docs/training.md has the measurement.
Its releases after 2.0 have another licence, so that it is held below 2.1.
"""

import dataclasses
import multiprocessing
import os
import threading
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

from zoo.inference.images import ImageSource
from zoo.inference.preprocessing import Preprocessing
from zoo.runtime.extras import require

# Width to height of random crops (Szegedy et al. 2015, arXiv 1409.4842, section 6).
ASPECT = (3 / 4, 4 / 3)
# Of an image's area, what a random erasing takes (Zhong et al. 2017, arXiv 1708.04896, table 1). Of
# a square one albumentations takes 0.3 at most, so that each of its aspect ratios fits in.
ERASED = (0.02, 0.4)

_local = threading.local()


@dataclasses.dataclass(frozen=True)
class CenterCrop:
    """An image → [size, size, C], uint8, as the model's preprocessing crops it."""

    preprocessing: Preprocessing

    def __call__(self, image: ImageSource, random: np.random.Generator | None = None) -> np.ndarray:
        """The image's pixels; nothing is drawn."""
        return self.preprocessing.resize_and_crop(self.preprocessing.load(image))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """An image → [size, size, C], uint8, changed at random.

    Of images in other channels than RGB, changes of colour change only the brightness, and of grey
    ones the contrast.

    Args:
      preprocessing: the model's; its size and channels count, and its crop where `crop_scale` is 1.
      crop_scale: the smallest share of an image's area that a random crop shows; 1 crops nothing.
      flip: the probability of mirroring an image left to right.
      rotate: the largest rotation in degrees.
      color_jitter: the largest relative change of brightness, contrast and saturation.
      randaugment: how many operations of RandAugment change an image (Cubuk et al. 2019, arXiv
        1909.13719).
      randaugment_magnitude: their strength, from 0 to 10.
      erasing: the probability of erasing a rectangle (Zhong et al. 2017, arXiv 1708.04896).
    """

    preprocessing: Preprocessing
    crop_scale: float = 1.0
    flip: float = 0.0
    rotate: float = 0.0
    color_jitter: float = 0.0
    randaugment: int = 0
    randaugment_magnitude: float = 9.0
    erasing: float = 0.0

    def __call__(self, image: ImageSource, random: np.random.Generator) -> np.ndarray:
        """The changed pixels; the generator's state alone decides how."""
        crop, change = self._transforms()
        pixels = self._load(image) if crop is None else self._load_part(image, random, crop)
        if change is None:
            return pixels
        set_random_state(change, random)
        changed: np.ndarray = change(image=pixels)["image"]
        return changed.reshape(*changed.shape[:2], -1)

    def _load(self, image: ImageSource) -> np.ndarray:
        return self.preprocessing.resize_and_crop(self.preprocessing.load(image))

    def _load_part(self, image: ImageSource, random: np.random.Generator, crop: Any) -> np.ndarray:
        """A random part of the image, of which no more pixels are decoded than that needs."""
        seed = _draw_seed(random)

        def draw(width: int, height: int) -> tuple[int, int, int, int]:
            """The same part, whatever the scale of the image."""
            crop.set_random_state(random, Random(seed))
            params = crop.get_params_dependent_on_data({"shape": (height, width)}, {})
            return params["crop_coords"]

        def min_side(width: int, height: int) -> float:
            left, top, right, bottom = draw(width, height)
            return self.preprocessing.size * min(width, height) / min(right - left, bottom - top)

        bands = self.preprocessing.load(image, min_side=min_side)
        return self.preprocessing.crop(bands, draw(*bands[0].size))

    def _transforms(self) -> tuple[Any, Any]:
        return once_per_thread(self, make_transforms)


def once_per_thread(settings: Any, make: Callable[[Any], Any]) -> Any:
    """What `make` makes of some settings; for each thread, since transforms hold a random state."""
    made = _local.__dict__.setdefault("made", {})
    if settings not in made:
        made[settings] = make(settings)
    return made[settings]


def set_random_state(transform: Any, random: np.random.Generator) -> None:
    """Lets a generator alone decide what a transform of albumentations draws."""
    transform.set_random_state(random, Random(_draw_seed(random)))


def load_albumentations() -> Any:
    """Imports albumentations, which then asks nobody for newer releases."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    load_opencv()
    return require("albumentations", "train")


def load_opencv() -> Any:
    """Imports OpenCV, which in a worker process, that has one core, starts no threads."""
    cv2 = require("cv2", "train")
    if multiprocessing.parent_process() is not None:
        cv2.setNumThreads(0)
    return cv2


def make_transforms(augmentation: Augmentation) -> tuple[Any, Any]:
    """What an augmentation asks for, of albumentations.

    Returns:
      (crop, change): the random crop, of which only the box is used, as Pillow cuts it out when it
      has decoded the image; and all that comes after it. None where there is nothing to do.
    """
    s = augmentation
    changes = any((s.flip, s.rotate, s.color_jitter, s.randaugment, s.erasing))
    if s.crop_scale == 1 and not changes:
        return None, None
    a = load_albumentations()
    size, channels = s.preprocessing.size, len(s.preprocessing.mean)
    crop = None
    if s.crop_scale < 1:
        crop = a.RandomResizedCrop((size, size), (s.crop_scale, 1.0), ASPECT)
    steps = []
    if s.flip:
        steps.append(a.HorizontalFlip(p=s.flip))
    if s.rotate:
        steps.append(a.Rotate((-s.rotate, s.rotate), p=1.0))
    if s.color_jitter:
        steps.append(jitter(a, channels, *3 * (s.color_jitter,)))
    if s.randaugment:
        operations = _randaugment_operations(a, s.randaugment_magnitude / 10, channels)
        steps += s.randaugment * [a.OneOf(operations, p=1.0)]
    if s.erasing:
        steps.append(a.Erasing(ERASED, fill="random", p=s.erasing))
    return crop, a.Compose(steps) if steps else None


def _draw_seed(random: np.random.Generator) -> int:
    """A seed of the generator of Python's that albumentations uses beside NumPy's."""
    return int(random.integers(1 << 63))


def jitter(
    a: Any, channels: int, brightness: float = 0, contrast: float = 0, saturation: float = 0
) -> Any:
    """Brightness, contrast and saturation changed by up to a share of theirs, in any order."""
    low_and_high = [(1 - share, 1 + share) for share in (brightness, contrast, saturation)]
    if channels in (1, 3):
        return a.ColorJitter(*low_and_high, (0.0, 0.0), p=1.0)
    return a.MultiplicativeNoise(low_and_high[0], per_channel=False, elementwise=False, p=1.0)


def _randaugment_operations(a: Any, strength: float, channels: int) -> list[Any]:
    """RandAugment's operations at a strength from 0 to 1, each in both directions.

    The ranges are those of AutoAugment (Cubuk et al. 2018, arXiv 1805.09501, table 6). Operations
    on colours are left out for images that are not RGB or grey.
    """
    shift = 0.45 * strength
    geometric = [
        a.NoOp(p=1.0),
        a.Affine(shear={"x": (-17 * strength, 17 * strength), "y": (0, 0)}, p=1.0),
        a.Affine(shear={"x": (0, 0), "y": (-17 * strength, 17 * strength)}, p=1.0),
        a.Affine(translate_percent={"x": (-shift, shift), "y": (0, 0)}, p=1.0),
        a.Affine(translate_percent={"x": (0, 0), "y": (-shift, shift)}, p=1.0),
        a.Rotate((-30 * strength, 30 * strength), p=1.0),
    ]
    brightness = jitter(a, channels, brightness=0.9 * strength)
    if channels not in (1, 3):
        return [*geometric, brightness]
    bits = round(8 - 4 * strength)
    threshold = 1 - strength
    by_value = [
        brightness,
        jitter(a, channels, contrast=0.9 * strength),
        a.Posterize(num_bits=(bits, bits), p=1.0),
        # It inverts white even at a threshold of 1.
        a.Solarize(threshold_range=(threshold, threshold), p=float(strength > 0)),
        a.AutoContrast(p=1.0),
        a.Equalize(p=1.0),
    ]
    if channels == 1:
        return geometric + by_value
    by_color = [
        jitter(a, channels, saturation=0.9 * strength),
        a.Sharpen(alpha=(0.0, 0.9 * strength), lightness=(1.0, 1.0), p=1.0),
    ]
    return geometric + by_value + by_color
