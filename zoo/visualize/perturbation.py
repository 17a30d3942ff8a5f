"""Methods that change the image and watch the class, without gradients: occlusion and RISE.

Both return maps [N, H, W] and compute with the model without batch norms, in batches of one shape.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import zoo_kernels as kernels
from zoo.checkpoints.load import ModelWithWeights
from zoo.models.base import Model
from zoo.runtime.checks import ArgumentError, check_count, check_number
from zoo.runtime.progress import Progress, shift_progress
from zoo.visualize.attribution import Attribution, make_attribution
from zoo.visualize.gradients import Baseline, describe_baseline, make_baseline
from zoo.visualize.inputs import Images, Inputs, Targets, prepare_inputs
from zoo.visualize.layers import Variables

# By default a window is three strides long, and an image 21. Where the stride does not divide the
# window, a map has thin lines, of pixels that fewer windows cover.
STRIDES_OF_WINDOW, STRIDES_OF_IMAGE = 3, 21


def occlusion(
    model: ModelWithWeights,
    images: Images,
    target: Targets = None,
    *,
    top: int | None = None,
    size: int | None = None,
    window: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    fill: Baseline = 0.0,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> Attribution:
    """How far the class's logit falls when a window is covered (Zeiler and Fergus 2013, 1311.2901).

    A window slides over the image. A pixel's value is the mean fall over the windows that cover it.

    Args:
      model, images, target, top, size: as for `zoo.visualize.gradient`.
      window: the height and width of the window in pixels; by default about a seventh of the
        image.
      stride: between windows, down and across; at most the window, so that every pixel is covered.
        By default a third of the window. Windows that reach over the border are cut there.
      fill: what covers the image: "black", "white", "grey", "blur", "noise", a number (of
        normalised pixels; 0 is the mean of the training images) or a normalised image [H, W, C].
      batch_size: the number of windows that are computed at a time.
      progress: called with the number of windows done and of all.

    Raises:
      ArgumentError: `window`, `stride`, `fill` or `batch_size` has another type or range.
      ImageError, TargetError, ValueError: as for `zoo.visualize.gradient`.
    """
    batch_size = check_count("batch_size", batch_size)
    inputs = prepare_inputs(model, images, target, top=top, size=size)
    sides = inputs.x.shape[1:3]
    if window is None:
        step = max(1, round(min(sides) / STRIDES_OF_IMAGE))
        window = min(STRIDES_OF_WINDOW * step, *sides)
    window = _check_pair("window", window, sides)
    if stride is None:
        stride = max(1, min(window) // STRIDES_OF_WINDOW)
    stride = _check_pair("stride", stride, window)
    corners = _list_corners(sides, window, stride)
    rows, columns = (
        np.array(
            (np.arange(side) >= start[:, None]) & (np.arange(side) < start[:, None] + length),
            np.float32,
        )
        for side, start, length in zip(sides, corners.T, window, strict=True)
    )
    # A window behind the border covers nothing: it gives the logits of the image as it is.
    corners = np.concatenate([[sides], corners]).astype(np.int32)
    fused, variables = inputs.trained.fused
    run = _compiled_occlusion(fused)
    maps = np.empty(inputs.x.shape[:3], np.float32)
    groups, count = group_by_image(inputs), len(corners)
    for number, indices in enumerate(groups):
        x, cover = inputs.x[indices[0]], make_baseline(inputs, indices[0], fill, 0)
        advance = shift_progress(progress, number * count, len(groups) * count)
        logits = np.empty((count, inputs.trained.model.num_classes), np.float32)
        for batch in split_evenly(count, batch_size):
            logits[batch] = run(variables, x, cover, corners[batch], np.array(window, np.int32))
            if advance is not None:
                advance(min(batch[0] + len(batch), count), count)
        for index in indices:
            scores = logits[:, inputs.targets[index]]
            fall = scores[0] - scores[1:, None]
            maps[index] = ((fall * rows).T @ columns) / (rows.T @ columns)
    settings = {"window": window, "stride": stride, "fill": describe_baseline(fill)}
    return make_attribution("occlusion", inputs, maps, **settings)


def rise(
    model: ModelWithWeights,
    images: Images,
    target: Targets = None,
    *,
    top: int | None = None,
    size: int | None = None,
    masks: int = 2000,
    cells: int = 7,
    keep: float = 0.5,
    center: bool = True,
    batch_size: int = 16,
    seed: int = 0,
    progress: Progress | None = None,
) -> Attribution:
    """RISE: the class's probability under random masks (Petsiuk et al. 2018, arXiv 1806.07421).

    A pixel's value is the sum of probability times mask, divided by the number of masks and by
    `keep`: the class's mean probability where the pixel is seen.

    Args:
      model, images, target, top, size: as for `zoo.visualize.gradient`.
      masks: the number of masks. The map's noise falls with its square root.
      cells: of a mask before it is enlarged, down and across. Fewer find larger parts.
      keep: the share of the cells that are seen, between 0 and 1.
      center: takes the mean probability over all masks off every probability, so that 0 means that
        it does not matter whether the pixel is seen, and the map has less noise. False gives the
        paper's map, all of which is positive.
      batch_size: the number of masks that are computed at a time.
      seed: of the masks, which are the same for all images.
      progress: called with the number of masks done and of all.

    Raises:
      ArgumentError: `masks`, `cells`, `keep` or `batch_size` has another type or range.
      ImageError, TargetError, ValueError: as for `zoo.visualize.gradient`.
    """
    masks, cells = check_count("masks", masks), check_count("cells", cells)
    batch_size = check_count("batch_size", batch_size)
    keep = check_number("keep", keep, 0, 1, included=False)
    inputs = prepare_inputs(model, images, target, top=top, size=size)
    groups, batches = group_by_image(inputs), split_evenly(masks, batch_size)
    fused, variables = inputs.trained.fused
    run, key = _compiled_rise(fused, cells), jax.random.key(seed)
    # Later numbers than the last mask's fill the last batch, and count nothing.
    numbers = [start + np.arange(len(batches[0])) for start in (batch[0] for batch in batches)]
    maps = np.empty(inputs.x.shape[:3], np.float32)
    for number, indices in enumerate(groups):
        advance = shift_progress(progress, number * masks, len(groups) * masks)
        targets, sums = inputs.targets[np.array(indices)], None
        for batch in numbers:
            weights = np.float32(batch < masks)
            probabilities, drawn = run(variables, inputs.x[indices[0]], key, batch, keep)
            sums = _add_weighted(sums, probabilities, drawn, targets, weights)
            if advance is not None:
                jax.block_until_ready(sums)
                advance(min(int(batch[-1]) + 1, masks), masks)
        weighted, coverage, total = (np.asarray(value) for value in sums or ())
        if center:
            weighted = weighted - total[:, None, None] / masks * coverage
        maps[indices] = weighted / (masks * keep)
    settings = {"masks": masks, "cells": cells, "keep": keep, "center": center, "seed": seed}
    return make_attribution("rise", inputs, maps, **settings)


def draw_masks(
    key: jax.Array, numbers: jax.Array, cells: int, keep: Any, sides: tuple[int, int]
) -> jax.Array:
    """RISE's masks [B, H, W] from 0 to 1: random cells, enlarged bilinearly and shifted.

    Args:
      key: random.
      numbers: of the masks, [B]; a mask depends on the key and its own number alone.
      cells: down and across, of which each is seen or not.
      keep: the share of the cells that are seen.
      sides: (H, W). The cells are enlarged to one cell more than that, of which a random part of
        the image's size is taken.
    """

    def draw(number: jax.Array) -> jax.Array:
        seen, *shift_keys = jax.random.split(jax.random.fold_in(key, number), 3)
        grid = jnp.float32(jax.random.bernoulli(seen, keep, (cells, cells)))
        down, across = (
            _enlarge(side, cells, shift_key)
            for side, shift_key in zip(sides, shift_keys, strict=True)
        )
        return down @ grid @ across.T

    return jax.vmap(draw)(numbers)


def _enlarge(side: int, cells: int, key: jax.Array) -> jax.Array:
    """The weights [side, cells] of the cells in each row of pixels, after a random shift."""
    cell = math.ceil(side / cells)
    pixels = jnp.arange(side) + jax.random.randint(key, (), 0, cell)
    centers = (pixels + 0.5) * cells / ((cells + 1) * cell) - 0.5
    distance = jnp.clip(centers, 0, cells - 1)[:, None] - jnp.arange(cells)
    return jnp.maximum(1 - jnp.abs(distance), 0)


def group_by_image(inputs: Inputs) -> list[list[int]]:
    """The rows of inputs, those of the same image together: one image may have several targets."""
    groups: dict[bytes, list[int]] = {}
    for row, x in enumerate(np.asarray(inputs.x)):
        groups.setdefault(x.tobytes(), []).append(row)
    return list(groups.values())


def split_evenly(count: int, batch_size: int) -> list[np.ndarray]:
    """Indices from 0 to count − 1 in batches of one length, at most batch_size.

    The last is filled with the first indices again.
    """
    batches = -(-count // batch_size)
    length = -(-count // batches)
    return list((np.arange(batches * length) % count).reshape(batches, length))


def _check_pair(
    name: str, value: int | tuple[int, int], limits: tuple[int, ...]
) -> tuple[int, int]:
    """(down, across) of a number or a pair, each from 1 to its limit."""
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    counts = [check_count(name, item) for item in pair]
    if len(counts) != 2 or counts[0] > limits[0] or counts[1] > limits[1]:
        whose = "the image" if name == "window" else "the window"
        raise ArgumentError(
            f"{name} must be a number or a pair, at most {tuple(limits)} as {whose}, got {value!r}"
        )
    return counts[0], counts[1]


def _list_corners(
    sides: tuple[int, ...], window: tuple[int, int], stride: tuple[int, int]
) -> np.ndarray:
    """The top left corners [K, 2] of windows that together cover the image."""
    starts = [
        step * np.arange(-(-(side - length) // step) + 1)
        for side, length, step in zip(sides, window, stride, strict=True)
    ]
    return np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, 2)


@functools.lru_cache(maxsize=32)
def _compiled_occlusion(module: Model) -> Callable[..., jax.Array]:
    """(variables, x, fill [H, W, C], corners [B, 2], window [2]) → logits [B, num_classes]."""

    @kernels.jit
    def run(
        variables: Variables, x: jax.Array, fill: jax.Array, corners: jax.Array, window: jax.Array
    ) -> Any:
        def inside(side: int, axis: int) -> jax.Array:
            pixels, start = jnp.arange(side), corners[:, axis, None]
            return (pixels >= start) & (pixels < start + window[axis])

        covered = inside(x.shape[0], 0)[:, :, None] & inside(x.shape[1], 1)[:, None, :]
        return module.apply(variables, jnp.where(covered[..., None], fill, x))

    return run


@functools.lru_cache(maxsize=32)
def _compiled_rise(module: Model, cells: int) -> Callable[..., Any]:
    """(variables, x, key, numbers [B], keep) → probabilities [B, num_classes], masks [B, H, W]."""

    @kernels.jit
    def run(variables: Variables, x: jax.Array, key: Any, numbers: jax.Array, keep: Any) -> Any:
        masks = draw_masks(key, numbers, cells, keep, (x.shape[0], x.shape[1]))
        logits: Any = module.apply(variables, x * masks[..., None])
        return jax.nn.softmax(logits), masks

    return run


@jax.jit
def _add_weighted(
    sums: Any, probabilities: jax.Array, masks: jax.Array, targets: jax.Array, weights: jax.Array
) -> Any:
    """Adds a batch: Σ p·mask [T, H, W], Σ mask [H, W] and Σ p [T]; sums is None at first."""
    p = probabilities[:, targets] * weights[:, None]
    added = (jnp.tensordot(p.T, masks, 1), jnp.tensordot(weights, masks, 1), p.sum(0))
    return added if sums is None else jax.tree.map(jnp.add, sums, added)
