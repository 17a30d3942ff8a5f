"""Small trees of images for the tests."""

import numpy as np
from PIL import Image


def save(path, shade=100):
    """Writes a photo of one shade of grey, which makes the folders above it; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, np.full((8, 8, 5), shade, np.uint8))
    else:
        Image.new("RGB", (8, 8), (shade,) * 3).save(path, format="PNG")
    return path


def save_all(root, *names):
    """Writes a photo for each name, no two of which are alike."""
    for number, name in enumerate(names):
        save(root / name, number % 256)
    return root


def names_of(dataset, root):
    """The paths of the images relative to a folder, each with the name of its class."""
    return [
        (str(image).removeprefix(f"{root}/"), dataset.classes[label])
        for image, label in zip(dataset.images, dataset.labels, strict=True)
    ]
