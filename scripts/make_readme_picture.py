"""Draws the picture of README.md: a photo, what it is classified as, and feature maps.

Everything in it comes from the repository: examples/cat.jpg and the embedded weights of
EfficientNet-Lite0. Needs the extra `notebooks` for matplotlib.

    python scripts/make_readme_picture.py docs/images/overview.jpg
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import zoo

PHOTO = Path(__file__).parent.parent / "examples" / "cat.jpg"
STAGES = ("stem", "stage2", "stage3", "stage5", "stage7")
INK, MUTED, BAR, TRACK = "#1f2328", "#59636e", "#2f6f9f", "#e6eaef"
# All lengths are in pixels. A map of 112x112, 56x56 … 7x7 is enlarged by a whole number to CELL.
DPI = 100
CELL, CELL_GAP, TILE_GAP, MARGIN = 112, 4, 48, 36
TILE = 2 * CELL + CELL_GAP
WIDTH = 2 * MARGIN + len(STAGES) * TILE + (len(STAGES) - 1) * TILE_GAP
# From the bottom up: labels of the tiles, tiles, their title, photo and bars, their title.
LABELS, TILES = 24, 52
TILES_TITLE = TILES + TILE + 14
TOP = TILES_TITLE + 58


def main() -> None:
    """Writes the picture to the path on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    lite = zoo.trained(zoo.EfficientNetLite0)
    features = zoo.features(lite, jnp.asarray(lite.preprocess(PHOTO)), STAGES)
    canvas = FigureCanvasAgg(draw(Image.open(PHOTO), lite.classify(PHOTO, top=5), features))
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    picture.save(out, quality=90, subsampling=0, optimize=True)


def draw(photo: Image.Image, classes: Any, features: dict[str, jax.Array]) -> Figure:
    """A figure: the photo and the bars above, a tile of feature maps for each stage below."""
    height = TOP + photo.height + 56
    figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor="white")

    def add_axes(left: int, bottom: int, width: int, tall: int) -> Any:
        axes = figure.add_axes((left / WIDTH, bottom / height, width / WIDTH, tall / height))
        axes.axis("off")
        return axes

    def add_text(x: float, y: float, text: str, **style: Any) -> None:
        figure.text(x / WIDTH, y / height, text, **style)

    code = {"family": "DejaVu Sans Mono", "size": 13.5, "color": INK}
    add_axes(MARGIN, TOP, *photo.size).imshow(photo)
    add_text(MARGIN, TOP + photo.height + 14, PHOTO.name, **code)
    left = MARGIN + photo.width + 56
    draw_bars(add_axes(left, TOP, WIDTH - MARGIN - left, photo.height), classes)
    add_text(left, TOP + photo.height + 14, f'lite.classify("{PHOTO.name}")', **code)

    names = ", ".join(f'"{name}"' for name in features)
    add_text(MARGIN, TILES_TITLE, f"zoo.features(lite, x, [{names}])", **code)
    for number, (name, maps) in enumerate(features.items()):
        left = MARGIN + number * (TILE + TILE_GAP)
        for place, image in enumerate(strongest_channels(np.asarray(maps[0]))):
            row, column = divmod(place, 2)
            corner = left + column * (CELL + CELL_GAP), TILES + (1 - row) * (CELL + CELL_GAP)
            axes = add_axes(*corner, CELL, CELL)
            axes.imshow(image, cmap="magma", interpolation="nearest")
        label = f"{name}   {' × '.join(map(str, maps.shape[1:]))}"
        add_text(left + TILE / 2, LABELS, label, size=13, color=MUTED, ha="center")
    return figure


def draw_bars(axes: Any, classes: list[tuple[str, float]]) -> None:
    """A bar for each class, its name above and its probability behind."""
    axes.set(xlim=(0, 1.13), ylim=(len(classes) - 0.33, -0.55))
    for row, (name, probability) in enumerate(classes):
        axes.barh(row + 0.14, 1, height=0.34, color=TRACK)
        axes.barh(row + 0.14, probability, height=0.34, color=BAR)
        axes.text(0, row - 0.12, name, va="bottom", size=13.5, color=INK)
        axes.text(1.13, row + 0.14, f"{probability:.1%}", ha="right", va="center", size=14)


def strongest_channels(maps: np.ndarray, count: int = 4) -> list[np.ndarray]:
    """[H, W, C] → the channels [H, W] that vary most, the first one first."""
    order = np.argsort(-maps.std(axis=(0, 1)), kind="stable")
    return [maps[..., channel] for channel in order[:count]]


if __name__ == "__main__":
    main()
