"""Draws docs/images/detection.jpg: what two small detectors find in images held out of training.

That of shapes is trained here, in minutes; that of trees is the model that examples/detect_trees.py
keeps. The airborne photos come with the package deepforest (see NOTICE).

    python scripts/make_detection_picture.py docs/images --trees runs/trees/model
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import zoo
from zoo.detection.colors import label_colors
from zoo.detection.data import DetectionSplits, load_trees, make_shapes
from zoo.visualize import pictures

EXAMPLES = Path(__file__).parent.parent / "examples"
SIDE, COLUMNS = 224, 5
SHAPES = (0, 3, 7, 8, 11)  # the numbers of the images shown
TREES = (5, 14, 20, 33, 50)
THRESHOLD = 0.3


def main() -> None:
    """Writes detection.jpg into the folder on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trees", type=Path, required=True, help="the detector of trees")
    options = parser.parse_args()
    shapes, images = train_on_shapes()
    trees = zoo.trained("SSDLite320_MobileNetV3_Large", weights=options.trees)
    tiles: Any = load_trees(size=160).val
    drawn = draw(shapes, [images[i] for i in SHAPES])
    drawn += draw(trees, [tiles.images[i] for i in TREES])
    pictures.save(pictures.grid(drawn, columns=COLUMNS), options.folder / "detection.jpg")


def train_on_shapes() -> tuple[Any, Any]:
    """A detector of shapes, trained as in notebooks/detection.ipynb, and the held-out images."""
    photos = sorted(EXAMPLES.glob("*.jpg"))
    train, held_out = (
        make_shapes(count, size=160, seed=seed, photos=photos)
        for seed, count in ((0, 400), (1, 100))
    )
    lite = zoo.trained("EfficientNetLite0")
    model = zoo.detection.SSDLite320_MobileNetV3_Large(backbone=lite.model.title, num_classes=5)
    detector = zoo.training.fit(
        zoo.detection.with_backbone(model, lite),
        DetectionSplits(train, held_out),
        settings="detection",
        size=160,
        epochs=8,
        batch_size=16,
        rate=1e-3,
        warmup_epochs=1,
        head_epochs=0,
        freeze_norms=("backbone/**",),
        crop_scale=0.7,
        zoom_out=0,
        color_jitter=0,
    )
    return detector, held_out.images


def draw(detector: Any, images: list[Any]) -> list[np.ndarray]:
    """Images with what a detector finds in them, enlarged before the boxes are drawn."""
    large = [pictures.resize(np.asarray(image), SIDE) for image in images]
    colors = label_colors(detector.labels[1:])
    found = detector.detect(large, threshold=THRESHOLD)
    pairs = zip(large, found, strict=True)
    return [
        np.asarray(zoo.detection.draw_detections(image, one, colors=colors, font_size=11))
        for image, one in pairs
    ]


if __name__ == "__main__":
    main()
