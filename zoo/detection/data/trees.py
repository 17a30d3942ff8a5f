"""Tree crowns from the air: a small set of real photos that the package deepforest brings."""

import dataclasses
import importlib.util
import os
from pathlib import Path

import numpy as np

from zoo.data.dataset import DatasetError
from zoo.detection.data.load import DetectionSplits
from zoo.detection.data.tiles import cut_tiles
from zoo.detection.data.voc import load_voc

# The photo of which the tiles are for validation: another place than those for training.
VALIDATION_PHOTO = "2019_YELL_2_541000_4977000_image_crop.png"


def load_trees(folder: str | os.PathLike[str] | None = None, *, size: int = 256) -> DetectionSplits:
    """Trees seen from above, in tiles: one class, "tree".

    The photos are airborne ones of NEON, the National Ecological Observatory Network of the United
    States, at 10 cm a pixel, with the crowns annotated by hand (Weinstein et al. 2020,
    doi 10.1111/2041-210X.13472). Three are for training, with 672 trees, and one for validation,
    with 279. The package deepforest is under the MIT licence; its data are enough, without what it
    depends on: `pip install --no-deps deepforest`.

    Args:
      folder: where the photos and the XML files are; by default in the installed package.
      size: height and width of the tiles in pixels.

    Raises:
      DatasetError: the package is not installed, or the folder lacks the photos.
    """
    source = _find_package() if folder is None else folder
    photos, _ = load_voc(source)
    names = [Path(photos.name_of(index)).name for index in range(len(photos))]
    if VALIDATION_PHOTO not in names:
        raise DatasetError(f"{source} lacks {VALIDATION_PHOTO}; expected the data of deepforest")
    number = names.index(VALIDATION_PHOTO)
    # One photo tells dead trees from others.
    labels = [np.zeros_like(part) for part in photos.labels]
    trees = dataclasses.replace(photos, classes=("tree",), labels=labels)
    parts = trees.select([i for i in range(len(trees)) if i != number]), trees.select([number])
    return DetectionSplits(*(cut_tiles(part, size) for part in parts))


def _find_package() -> Path:
    """The folder of deepforest's data; the package itself, which needs PyTorch, is not imported."""
    spec = importlib.util.find_spec("deepforest")
    if spec is None or not spec.submodule_search_locations:
        raise DatasetError(
            "the photos of trees come with the package deepforest: pip install --no-deps deepforest"
        )
    return Path(spec.submodule_search_locations[0], "data")
