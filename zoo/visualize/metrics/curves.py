"""Insertion and deletion: the class's probability as the image appears or disappears."""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

import zoo_kernels as kernels
from zoo.checkpoints.load import ModelWithWeights
from zoo.models.base import Model
from zoo.runtime.checks import check_count
from zoo.visualize import pictures
from zoo.visualize.attribution import Attribution
from zoo.visualize.gradients import Baseline, make_baseline
from zoo.visualize.layers import Variables
from zoo.visualize.metrics.common import pixel_importance, rank_pixels, restore_inputs
from zoo.visualize.perturbation import split_evenly

WIDTH, HEIGHT, MARGIN = 260, 180, 12


@dataclasses.dataclass(frozen=True, eq=False)
class Curves:
    """The probabilities of classes as pixels are shown or removed; shows itself in a notebook.

    Args:
      metric: "insertion" or "deletion".
      curve: probabilities [N, steps + 1], from no pixel to all, the most important first.
      area: under each curve, [N], from 0 to 1. For insertion more is better, for deletion less.
      labels: the classes' names, [N].
      method: that made the maps.
    """

    metric: str
    curve: np.ndarray
    area: np.ndarray
    labels: tuple[str, ...]
    method: str

    def __len__(self) -> int:
        return len(self.curve)

    def __repr__(self) -> str:
        areas = ", ".join(f"{area:.3f}" for area in self.area)
        return f"Curves({self.metric} of {self.method}, area {areas})"

    @property
    def shares(self) -> np.ndarray:
        """The shares of the pixels that are shown or removed, [steps + 1]."""
        return np.linspace(0, 1, self.curve.shape[1])

    def picture(self) -> pictures.Picture:
        """A diagram for each image, with the area in its title."""
        titles = [
            f"{self.metric} {area:.3f}: {label}"
            for area, label in zip(self.area, self.labels, strict=True)
        ]
        diagrams = [_draw(curve) for curve in self.curve]
        return pictures.Picture(pictures.grid(diagrams, titles), f"{self.metric} of {self.method}")

    def figure(self) -> Any:
        """A matplotlib figure of all curves in one diagram; needs the extra `visualize`."""
        from zoo.runtime.extras import require

        figure = require("matplotlib.figure", "visualize").Figure(
            figsize=(4.5, 3), layout="constrained"
        )
        axis = figure.subplots()
        for curve, area, label in zip(self.curve, self.area, self.labels, strict=True):
            axis.plot(self.shares, curve, label=f"{label}: {area:.3f}")
        axis.set(xlabel="share of the pixels", ylabel="probability", ylim=(0, 1))
        axis.set_title(f"{self.metric} of {self.method}")
        axis.legend(fontsize=8)
        return figure

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves the picture as PNG, JPEG or WebP, by the path's ending."""
        self.picture().save(path)

    def _repr_jpeg_(self) -> bytes:
        return self.picture()._repr_jpeg_()


def insertion(
    model: ModelWithWeights,
    attribution: Attribution,
    *,
    steps: int = 50,
    fill: Baseline = "blur",
    batch_size: int = 16,
) -> Curves:
    """The class's probability as pixels appear, the most important first (RISE, arXiv 1806.07421).

    Args:
      model: that the attribution was made with.
      attribution: what a method of `zoo.visualize` returns. Of maps with channels, the sum of the
        absolute values orders the pixels.
      steps: in which the pixels appear, of equal numbers of pixels.
      fill: the image at the beginning: "blur", "black", "white", "grey", "noise", a number (of
        normalised pixels) or a normalised image [H, W, C].
      batch_size: the number of images that are computed at a time.

    Returns:
      The curves and their areas; the larger the area, the better the map.

    Raises:
      ArgumentError: `steps`, `fill` or `batch_size` has another type or range.
      TargetError: the model does not have the attribution's classes.
      ValueError: the weights have no classifier, or images that photos do not show.
    """
    return _follow("insertion", model, attribution, steps, fill, batch_size)


def deletion(
    model: ModelWithWeights,
    attribution: Attribution,
    *,
    steps: int = 50,
    fill: Baseline = "grey",
    batch_size: int = 16,
) -> Curves:
    """The class's probability as pixels disappear, the most important first (RISE, 1806.07421).

    Args:
      model, attribution, steps, batch_size: as for `insertion`.
      fill: the image at the end, as for `insertion`.

    Returns:
      The curves and their areas; the smaller the area, the better the map.

    Raises:
      ArgumentError, TargetError, ValueError: as for `insertion`.
    """
    return _follow("deletion", model, attribution, steps, fill, batch_size)


def _follow(
    metric: str,
    model: ModelWithWeights,
    attribution: Attribution,
    steps: int,
    fill: Baseline,
    batch_size: int,
) -> Curves:
    steps, batch_size = check_count("steps", steps), check_count("batch_size", batch_size)
    inputs = restore_inputs(model, attribution)
    fused, variables = inputs.trained.fused
    run = _compiled_mixture(fused)
    importance = pixel_importance(attribution)
    counts = np.round(np.linspace(0, importance[0].size, steps + 1)).astype(np.int32)
    curves = []
    for row, x in enumerate(inputs.x):
        other, ranks = make_baseline(inputs, row, fill, 0), rank_pixels(importance[row])
        first, last = (x, other) if metric == "insertion" else (other, x)
        batches = [
            run(variables, first, last, ranks, counts[batch], inputs.targets[row])
            for batch in split_evenly(len(counts), batch_size)
        ]
        curves.append(np.concatenate([np.asarray(batch) for batch in batches])[: len(counts)])
    curve = np.stack(curves)
    area = np.trapezoid(curve, dx=1 / steps, axis=1)
    return Curves(metric, curve, area, attribution.labels, attribution.method)


@functools.lru_cache(maxsize=32)
def _compiled_mixture(module: Model) -> Callable[..., jax.Array]:
    """(variables, first, last, ranks [H, W], counts [B], target) → the target's probabilities, [B].

    The pixels of ranks below a count are those of the first image, the others those of the last.
    """

    @kernels.jit
    def run(
        variables: Variables,
        first: jax.Array,
        last: jax.Array,
        ranks: jax.Array,
        counts: jax.Array,
        target: jax.Array,
    ) -> jax.Array:
        early = (ranks < counts[:, None, None])[..., None]
        logits: Any = module.apply(variables, jnp.where(early, first, last))
        return jax.nn.softmax(logits)[:, target]

    return run


def _draw(curve: np.ndarray) -> np.ndarray:
    """A diagram of values from 0 to 1, [HEIGHT, WIDTH, 3]."""
    scale = 3  # drawn larger and reduced, which smooths the lines
    width, height, margin = WIDTH * scale, HEIGHT * scale, MARGIN * scale
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    x = np.linspace(margin, width - margin, len(curve))
    y = height - margin - np.clip(curve, 0, 1) * (height - 2 * margin)
    points = list(zip(x.tolist(), y.tolist(), strict=True))
    corners = [(width - margin, height - margin), (margin, height - margin)]
    draw.polygon(points + corners, fill=(253, 221, 200))
    for level in np.linspace(margin, height - margin, 5):
        draw.line((margin, level, width - margin, level), fill=(215, 215, 215), width=scale)
    draw.line(points, fill=(187, 55, 84), width=2 * scale, joint="curve")
    draw.line((margin, margin, *corners[1], *corners[0]), fill="black", width=scale)
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
