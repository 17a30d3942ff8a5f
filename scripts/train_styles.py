"""Trains the styles that come with the package, and embeds them.

    pip install scikit-image==0.26.0 scikit-learn matplotlib
    python -m scripts.train_styles runs/styles

The styles are drawn by `make_style_images.py`. The photos are those that these packages ship. The
pictures are judged by the embedded EfficientNet-Lite0. The run can be interrupted and goes on; on
2 cores it takes two hours.

What is embedded was made in parts, each of which began with the network of the one before, while
the recipe was being found: first an hour with VGG16 and other weights as the judge, then some 70
minutes with what is called "small" below, of which the last 18 had all its settings, and 20 of
"large". From the start, 80 minutes of "small" should do as well; that has not been tried.
"""

import argparse
import shutil
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import zoo
from scripts.make_style_images import draw_all

EMBEDDED = Path(__file__).parent.parent / "pretrained/zoo_pretrained/checkpoints/styles"
TRAINED = ("mosaic", "stars", "ink", "waves")
SKIMAGE_PHOTOS = (
    *("astronaut.png", "brick.png", "camera.png", "clock_motion.png", "coins.png", "grass.png"),
    *("gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png"),
    *("motorcycle_right.png", "retina.jpg"),
)
PHOTOS = {
    "skimage.data": SKIMAGE_PHOTOS,
    "sklearn.datasets.images": ("china.jpg",),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
}
# Each begins with the network of the one before.
PHASES: dict[str, dict[str, Any]] = {
    "small": {"minutes": 80, "size": 128},
    "large": {"minutes": 20, "size": 256, "rate": 3e-4, "evaluate_steps": 100},
}


def collect_photos(folder: Path) -> None:
    """Copies the photos of other packages into a folder, and draws clear skies beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    for package, names in PHOTOS.items():
        for name in names:
            with resources.as_file(resources.files(package) / name) as path:
                shutil.copy(path, folder / path.name)
    for number, pixels in enumerate(draw_gradients()):
        Image.fromarray(pixels).save(folder / f"gradient_{number}.png")


def draw_gradients(count: int = 6, size: tuple[int, int] = (320, 480)) -> Iterator[np.ndarray]:
    """Yields even changes from one random color to another; every second one is dark."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[: size[0], : size[1]] / size[1]
    for number in range(count):
        dark = number % 2
        first = random.uniform(0, 255, 3) * (0.3 if dark else 1)
        last = random.uniform(0, 255, 3) * (0.5 if dark else 1)
        angle = random.uniform(0, 2 * np.pi)
        place = np.cos(angle) * x + np.sin(angle) * y
        place = ((place - place.min()) / np.ptp(place)) ** random.uniform(0.6, 1.8)
        pixels: np.ndarray = first + (last - first) * place[..., None]
        yield pixels.astype(np.uint8)


def main() -> None:
    """Trains, and embeds the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="of the run")
    parser.add_argument("--start", help="a checkpoint of styles to begin with")
    args = parser.parse_args()
    collect_photos(args.folder / "photos")
    draw_all(args.folder / "images")
    styles = args.start
    for name, settings in PHASES.items():
        styles = zoo.style.train(
            {style: args.folder / "images" / f"{style}.jpg" for style in TRAINED},
            args.folder / "photos",
            folder=args.folder / name,
            start=styles,
            model="EfficientNetLite0",
            content_layers="stage3",
            style_layers=["stem", *(f"stage{number}/block1" for number in range(1, 5))],
            style_size=320,
            content_weight=2,
            style_weight=10,
            variation_weight=2,
            crop_scale=0.04,
            validation=0.2,
            licence="Apache-2.0",
            **{"evaluate_steps": 250, **settings},
        )
    styles.save(EMBEDDED, overwrite=True)


if __name__ == "__main__":
    main()
