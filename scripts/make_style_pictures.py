"""Draws docs/images/style.jpg: the example photos, each in all embedded styles.

python scripts/make_style_pictures.py docs/images
"""

import argparse
from pathlib import Path

import numpy as np

import zoo
from zoo.inference.images import load_image
from zoo.visualize import pictures

EXAMPLES = Path(__file__).parent.parent / "examples"
PHOTOS = ("cat", "rocket", "espresso")
HEIGHT, WIDTH = 192, 256


def main() -> None:
    """Writes style.jpg into the folder on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    styles = zoo.style.list_styles()
    tiles: list[np.ndarray] = []
    for name in PHOTOS:
        photo = np.asarray(load_image(EXAMPLES / f"{name}.jpg"))
        # The middle, in one aspect for all.
        height, width = photo.shape[:2]
        wide = min(width, height * WIDTH // HEIGHT)
        left = (width - wide) // 2
        photo = pictures.resize(photo[:, left : left + wide], 2 * HEIGHT, 2 * WIDTH)
        painted = [zoo.style.apply(photo, style).pixels for style in styles]
        tiles += [pictures.resize(tile, HEIGHT, WIDTH) for tile in (photo, *painted)]
    titles = ["photo", *styles] + [""] * (len(tiles) - len(styles) - 1)
    pictures.save(pictures.grid(tiles, titles, columns=len(styles) + 1), folder / "style.jpg")


if __name__ == "__main__":
    main()
