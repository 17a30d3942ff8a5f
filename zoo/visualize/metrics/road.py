"""Remove and debias (ROAD): pixels are removed so that the gap itself tells the model nothing."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from zoo.checkpoints.load import ModelWithWeights
from zoo.runtime.checks import ArgumentError, check_count, check_number
from zoo.runtime.extras import require
from zoo.visualize.attribution import Attribution
from zoo.visualize.inputs import to_photos
from zoo.visualize.metrics.common import pixel_importance, rank_pixels, restore_inputs
from zoo.visualize.perturbation import split_evenly
from zoo.visualize.pictures import Gallery

Order = Literal["most", "least", "combined"]

# How much each of a pixel's neighbours counts: (down, across) → weight.
NEIGHBORS = {
    (down, across): 1 / 6 if down == 0 or across == 0 else 1 / 12
    for down in (-1, 0, 1)
    for across in (-1, 0, 1)
    if (down, across) != (0, 0)
}


@dataclasses.dataclass(frozen=True, eq=False)
class Road:
    """What `road` returns.

    Args:
      order: "most", "least" or "combined".
      percentiles: at which pixels were removed, [P].
      changes: of the class's probability, [N, P]; for "combined" half of least − most.
      score: their mean, [N]. For "most" less is better, for "least" and "combined" more.
      images: what the model saw, a gallery of each image's P pictures; for "combined" 2 P, with the
        most important pixels removed first.
    """

    order: Order
    percentiles: tuple[float, ...]
    changes: np.ndarray
    score: np.ndarray
    images: Gallery = dataclasses.field(repr=False)


def road(
    model: ModelWithWeights,
    attribution: Attribution,
    *,
    percentiles: float | Sequence[float] = (20, 40, 60, 80),
    order: Order = "combined",
    noise: float = 0.01,
    seed: int = 0,
    batch_size: int = 16,
) -> Road:
    """How the class's probability changes as pixels are removed (Rong et al. 2022, 2202.00449).

    Removed pixels become the weighted means of their neighbours, removed ones too, plus noise: the
    solution of a linear system.

    Args:
      model: that the attribution was made with.
      attribution: what a method of `zoo.visualize` returns.
      percentiles: of importance, above which pixels are removed: 80 removes the 20 % of the pixels
        that are most important, or with order "least" the 20 % that are least. One or several.
      order: which pixels are removed, the "most" or the "least" important ones; or "combined", half
        of the difference of the probabilities, least − most.
      noise: the standard deviation of what is added to removed (normalised) pixels.
      seed: of the noise.
      batch_size: the number of images that are computed at a time.

    Raises:
      ArgumentError: `percentiles`, `order`, `noise` or `batch_size` has another type or range.
      TargetError: the model does not have the attribution's classes.
      ValueError: the weights have no classifier, or images that photos do not show.
    """
    batch_size, noise = check_count("batch_size", batch_size), check_number("noise", noise)
    if not isinstance(percentiles, Iterable) or isinstance(percentiles, str):
        percentiles = (percentiles,)
    chosen = tuple(check_number("percentiles", p, 0, 100, included=False) for p in percentiles)
    if not chosen:
        raise ArgumentError("percentiles must be one at least, got none")
    if order not in ("most", "least", "combined"):
        raise ArgumentError(f"order must be one of most, least, combined, got {order!r}")
    inputs = restore_inputs(model, attribution)
    importance, rng = pixel_importance(attribution), np.random.default_rng(seed)
    x = np.asarray(inputs.x)
    orders = ("most", "least") if order == "combined" else (order,)
    changed: list[np.ndarray] = []
    for image, values in zip(x, importance, strict=True):
        ranks = {"most": rank_pixels(values), "least": rank_pixels(-values)}
        for name in orders:
            for percentile in chosen:
                # As many as are below the percentile, which is interpolated between two values.
                kept = math.ceil(percentile / 100 * (values.size - 1))
                removed = ranks[name] < values.size - kept
                filled = impute(image, removed)
                filled[removed] += noise * rng.normal(size=(removed.sum(), x.shape[-1]))
                changed.append(filled)
    stacked = np.concatenate([x, np.stack(changed)])
    batches = [
        np.asarray(inputs.trained.probabilities(stacked[batch]))
        for batch in split_evenly(len(stacked), batch_size)
    ]
    probabilities = np.concatenate(batches)[: len(stacked)]
    targets = np.asarray(inputs.targets)
    before = probabilities[np.arange(len(x)), targets]
    after = probabilities[len(x) :].reshape(len(x), len(orders), len(chosen), -1)
    after = np.take_along_axis(after, targets[:, None, None, None], axis=-1)[..., 0]
    changes = after - before[:, None, None]
    total = changes[:, 0] if len(orders) == 1 else (changes[:, 1] - changes[:, 0]) / 2
    titles = [
        f"{name} important {100 - percentile:g} %: {value:+.2f}"
        for row in changes
        for name, values in zip(orders, row, strict=True)
        for percentile, value in zip(chosen, values, strict=True)
    ]
    photos = to_photos(inputs.trained.info.preprocessing, np.stack(changed))
    return Road(order, chosen, total, total.mean(1), Gallery(photos, titles, len(chosen)))


def impute(x: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """An image whose removed pixels are the weighted means of their neighbours.

    Args:
      x: [H, W, C].
      removed: [H, W], bool; not all of them.

    Returns:
      [H, W, C] of x's dtype; computed in float64.
    """
    sparse: Any = require("scipy.sparse", "visualize")
    solver: Any = require("scipy.sparse.linalg", "visualize")
    height, width, channels = x.shape
    pixels = np.argwhere(removed)
    count = len(pixels)
    number = np.full((height, width), -1)
    number[removed] = np.arange(count)
    total, known = np.zeros(count), np.zeros((count, channels))
    rows, columns, values = [], [], []
    for offset, weight in NEIGHBORS.items():
        down, across = (pixels + offset).T
        inside = (down >= 0) & (down < height) & (across >= 0) & (across < width)
        row, down, across = np.flatnonzero(inside), down[inside], across[inside]
        total[row] += weight
        unknown = number[down, across] >= 0
        known[row[~unknown]] += weight * x[down[~unknown], across[~unknown]]
        rows.append(row[unknown])
        columns.append(number[down, across][unknown])
        values.append(np.full(unknown.sum(), -weight))
    rows.append(np.arange(count))
    columns.append(np.arange(count))
    values.append(total)
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    # The matrix is symmetric, with the largest values on its diagonal: an order of elimination for
    # those keeps it sparse, and no pivots are sought.
    factors = solver.splu(
        sparse.csc_matrix(entries, shape=(count, count)),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    filled = x.copy()
    filled[removed] = factors.solve(known)
    return filled
