"""How many shapes photos are padded to, each of which is a program, and what the padding adds.

Photos have the usual sizes of cameras, telephones, films, screens and data sets, and many random
ones; each also turned by a quarter.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

# Widths and heights.
USUAL = (
    *((640, 480), (640, 427), (640, 426), (640, 360), (612, 612), (500, 375), (500, 333)),
    *((4000, 3000), (4032, 3024), (6000, 4000), (5184, 3456), (3840, 2160), (1920, 1080)),
    *((1280, 720), (1024, 768), (1280, 1024), (2560, 1600), (1080, 1350), (1080, 1080)),
    *((2400, 1080), (2532, 1170), (2560, 1080), (1754, 1240), (1500, 1000), (1200, 800)),
)
RANDOM, LONGEST = 2000, 3.0  # how many random ones, and the largest ratio of their sides


def measure(models: list[str]) -> list[dict[str, Any]]:
    """For each size that models see photos at, and kind of photos: how many shapes, and the area.

    The area is relative to that of the photo, padded to the multiple of the model's stride alone.
    Models that stretch photos to one size have one shape.
    """
    from zoo.models.base import find_model

    detectors: dict[tuple[int, int], Any] = {}
    for model in models:
        detector: Any = find_model(model).constructor()
        if detector.image_size is None:
            detectors.setdefault((detector.short_side, detector.long_side), detector)
    return [
        {"sides": list(sides), "photos": name, **_measure_photos(detector, photos)}
        for sides, detector in detectors.items()
        for name, photos in (("usual", list(USUAL)), ("random", make_random()))
    ]


def make_random() -> list[tuple[int, int]]:
    """Widths and heights whose ratios are evenly distributed, as logarithms."""
    random = np.random.default_rng(0)
    ratios = np.exp(random.uniform(0, np.log(LONGEST), RANDOM))
    heights = random.integers(300, 3000, RANDOM)
    return [
        (round(height * ratio), int(height)) for height, ratio in zip(heights, ratios, strict=True)
    ]


def _measure_photos(detector: Any, photos: list[tuple[int, int]]) -> dict[str, Any]:
    from zoo.detection.canvas import choose_canvas

    canvases, exact, added = set(), set(), []
    for width, height in (*photos, *((height, width) for width, height in photos)):
        size = detector.resized_size(height, width)
        canvas = choose_canvas(detector, size)
        divisor = detector.divisor
        alone = tuple(-(-side // divisor) * divisor for side in size)
        canvases.add(canvas)
        exact.add(alone)
        added.append(np.prod(canvas) / np.prod(alone) - 1)
    return {
        "sizes": 2 * len(photos),
        "canvases": len(canvases),
        "without": len(exact),
        "mean": float(np.mean(added)),
        "most": float(np.max(added)),
    }


def format_line(row: Mapping[str, Any]) -> str:
    """A row as a line of text."""
    return (
        f"sides {row['sides']}, {row['photos']} photos: {row['sizes']} sizes in {row['canvases']} "
        f"shapes, area +{row['mean']:.1%}, at most +{row['most']:.1%}; as they are in "
        f"{row['without']}"
    )
