"""Draws X-rays of bones, some of them broken, in the layout of MURA's archive.

For trying out `zoo train mura` and `zoo evaluate mura` without MURA, whose images are lent under an
agreement only: python examples/generate_mura.py FOLDER
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

PARTS = ("ELBOW", "FINGER", "FOREARM", "HAND", "HUMERUS", "SHOULDER", "WRIST")


def generate(folder, patients=300, seed=0, parts=PARTS):
    """Writes MURA-v1.1 with its CSV files into a folder, and returns the path of MURA-v1.1.

    Of the patients four fifths are for training. Each has one to three studies of a body part or
    two, positive and negative ones; a study has one to four images, and of a positive one the first
    image and most of the others show the fracture.

    With ten patients or more for each body part, both splits have both labels of all of them.
    """
    root = Path(folder) / "MURA-v1.1"
    random = np.random.default_rng(seed)
    first = patients - patients // 5  # of the patients for validation
    for split, numbers in {"train": range(first), "valid": range(first, patients)}.items():
        images, studies = [], []
        for number in numbers:
            for study in range(random.integers(1, 4)):
                # The first studies alternate, so that all body parts have both labels.
                order = number - numbers.start + (random.integers(99) if study else 0)
                part = parts[order % len(parts)]
                label = order // len(parts) % 2
                name = f"study{study + 1}_{('negative', 'positive')[label]}"
                path = f"MURA-v1.1/{split}/XR_{part}/patient{number + 1:05d}/{name}/"
                (root.parent / path).mkdir(parents=True)
                studies.append(f"{path},{label}\n")
                for image in range(random.integers(1, 5)):
                    images.append(f"{path}image{image + 1}.png")
                    broken = bool(label) and (image == 0 or random.random() < 0.8)
                    draw_bone(random, broken).save(root.parent / images[-1])
        (root / f"{split}_image_paths.csv").write_text("".join(f"{path}\n" for path in images))
        (root / f"{split}_labeled_studies.csv").write_text("".join(studies))
    return root


def draw_bone(random, broken):
    """Draws a long bone, and across it a jagged dark line behind which the bone is displaced."""
    height, width = random.integers(90, 161, 2)
    size = min(height, width)
    y, x = np.mgrid[:height, :width]
    y, x = (y - height / 2) / size, (x - width / 2) / size
    angle = random.uniform(0, np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle) + random.uniform(-0.1, 0.1)
    across = across + random.uniform(-0.3, 0.3) * along**2
    tissue = 0.2 * np.exp(-((across / random.uniform(0.25, 0.4)) ** 4))
    gap = np.ones_like(across)
    if broken:
        jags = np.cumsum(random.normal(0, 0.02, 25))
        line = random.uniform(-0.2, 0.2) + np.interp(across, np.linspace(-0.3, 0.3, 25), jags)
        behind = along - line - random.uniform(-0.5, 0.5) * across
        across = across + random.choice([-1, 1]) * random.uniform(0, 0.07) * (behind > 0)
        gap = 1 - random.uniform(0.3, 0.9) * np.exp(-((behind / random.uniform(0.015, 0.03)) ** 2))
    radius = random.uniform(0.07, 0.13) * (1 + 1.5 * along**2)
    depth = np.clip(1 - (across / radius) ** 2, 0, None)  # that the rays pass through
    cortex = np.exp(-((depth / 0.35 - 1) ** 2))
    grain = random.normal(0, 0.04, (height, width))
    bone = (0.4 * np.sqrt(depth) + 0.3 * cortex * (depth > 0) + grain * (depth > 0)) * gap
    pixels = 255 * random.uniform(0.7, 1.1) * (0.04 + tissue + bone)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    blurred = image.filter(ImageFilter.GaussianBlur(random.uniform(0.4, 1)))
    noisy = np.asarray(blurred) + random.normal(0, 4, (height, width))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--patients", type=int, default=300)
    arguments.add_argument("--seed", type=int, default=0)
    generate(**vars(arguments.parse_args()))
