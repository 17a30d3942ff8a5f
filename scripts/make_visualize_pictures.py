"""Draws the pictures of docs/visualize.md and README.md: maps, features, dreams.

Everything in them comes from the repository: the example photos and the embedded weights of
EfficientNet-Lite0. Takes two minutes on two cores.

    python scripts/make_visualize_pictures.py docs/images
"""

import argparse
from pathlib import Path

import numpy as np

import zoo
from zoo import visualize
from zoo.inference.images import load_image
from zoo.visualize import pictures

EXAMPLES = Path(__file__).parent.parent / "examples"
SIDE = 176
# Method, and the column of its picture.
MAPS = (
    ("grad-cam", "overlay"),
    ("guided-grad-cam", "grey"),
    ("integrated-gradients", "grey"),
    ("rise", "overlay"),
)
FEATURES = ("stage2:3", "stage3:5", "stage4:12", "stage6:20", "stage6:42")
DREAM_HEIGHT = 240


def main() -> None:
    """Writes visualize.jpg and dream.jpg into the folder on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    lite = zoo.trained(zoo.EfficientNetLite0)
    pictures.save(draw_maps(lite), folder / "visualize.jpg")
    pictures.save(draw_dreams(lite), folder / "dream.jpg")


def draw_maps(lite: zoo.Trained) -> np.ndarray:
    """A cat and its maps by four methods; below, what five channels respond to."""
    cat = EXAMPLES / "cat.jpg"
    found = [visualize.METHODS[name](lite, cat) for name, _ in MAPS]
    tiles = [found[0].render("photo")[0]]
    tiles += [a.render(column)[0] for a, (_, column) in zip(found, MAPS, strict=True)]
    tiles += list(visualize.feature(lite, FEATURES, size=SIDE).pixels)
    titles = [found[0].labels[0], *(name for name, _ in MAPS), *FEATURES]
    return pictures.grid([pictures.resize(tile, SIDE) for tile in tiles], titles, columns=5)


def draw_dreams(lite: zoo.Trained) -> np.ndarray:
    """A rocket and its dream; a cat, dreaming of an espresso."""
    rocket, cat, espresso = (EXAMPLES / f"{name}.jpg" for name in ("rocket", "cat", "espresso"))
    dream = zoo.dream(lite, rocket, steps=20, total_variation=0.25).pixels
    guided = zoo.dream(lite, cat, guide=espresso, layers="stage4", total_variation=0.25).pixels
    height, width = dream.shape[:2]
    width = width * DREAM_HEIGHT // height
    before = pictures.resize(np.asarray(load_image(rocket)), DREAM_HEIGHT, width)
    tiles = [before, *(pictures.resize(p, DREAM_HEIGHT, width) for p in (dream, guided))]
    return pictures.grid(tiles, columns=3)


if __name__ == "__main__":
    main()
