"""Boxes: their formats, areas and overlaps, and how a network codes them relative to anchors.

A box is (x1, y1, x2, y2), its left, top, right and bottom edges in pixels. All functions work on
the last axis of arrays [..., 4], whatever comes before it.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from zoo.runtime.checks import ArgumentError

BoxFormat = Literal["xyxy", "xywh", "cxcywh"]

FORMATS = ("xyxy", "xywh", "cxcywh")
# A network's output may be any number, and exp of it is a size. No box grows by more than this
# from its anchor, as in Detectron: 1000 pixels from an anchor of 16.
MAX_LOG_RATIO = math.log(1000 / 16)

Weights = tuple[float, float, float, float]


def convert_boxes(boxes: jax.Array, source: BoxFormat, target: BoxFormat) -> jax.Array:
    """Boxes in another format.

    Args:
      boxes: [..., 4].
      source: their format: "xyxy" is two corners, "xywh" the top left corner, width and height
        (COCO's format), "cxcywh" the centre, width and height (YOLO's format).
      target: the wanted format.

    Raises:
      ArgumentError: there is no such format.
    """
    for name, value in (("source", source), ("target", target)):
        if value not in FORMATS:
            raise ArgumentError(f"{name} must be one of {', '.join(FORMATS)}, got {value!r}")
    if source == target:
        return boxes
    first, second = boxes[..., :2], boxes[..., 2:]
    if source == "xyxy":
        start, size = first, second - first
    elif source == "xywh":
        start, size = first, second
    else:
        start, size = first - second / 2, second
    if target == "xyxy":
        pair = start, start + size
    elif target == "xywh":
        pair = start, size
    else:
        pair = start + size / 2, size
    return jnp.concatenate(pair, axis=-1)


def box_area(boxes: jax.Array) -> jax.Array:
    """The areas of boxes [..., 4] → [...]; negative where one edge is on the wrong side."""
    x1, y1, x2, y2 = _edges(boxes)
    return (x2 - x1) * (y2 - y1)


def box_iou(boxes: jax.Array, others: jax.Array) -> jax.Array:
    """The intersection over union of all pairs, [..., N, 4] and [..., M, 4] → [..., N, M].

    It is 0 where the union has no area.
    """
    boxes, others = boxes[..., :, None, :], others[..., None, :, :]
    intersection = _intersection(boxes, others)
    union = box_area(boxes) + box_area(others) - intersection
    valid = union > 0
    return jnp.where(valid, intersection / jnp.where(valid, union, 1), 0)


def generalized_iou(boxes: jax.Array, others: jax.Array, eps: float = 1e-7) -> jax.Array:
    """The generalised intersection over union of boxes [..., 4] and as many others → [...].

    From -1, for small boxes that are far apart, to 1, for equal ones (Rezatofighi et al. 2019,
    arXiv 1902.09630). It is differentiable for boxes that do not overlap, too.

    Args:
      boxes, others: they broadcast with each other.
      eps: added to what is divided by, so that boxes without area have finite gradients.
    """
    x1, y1, x2, y2 = _edges(boxes)
    other_x1, other_y1, other_x2, other_y2 = _edges(others)
    intersection = _intersection(boxes, others)
    union = box_area(boxes) + box_area(others) - intersection
    width = jnp.maximum(x2, other_x2) - jnp.minimum(x1, other_x1)
    height = jnp.maximum(y2, other_y2) - jnp.minimum(y1, other_y1)
    hull = width * height
    return intersection / (union + eps) - (hull - union) / (hull + eps)


def clip_boxes(boxes: jax.Array, height: float | jax.Array, width: float | jax.Array) -> jax.Array:
    """Boxes [..., 4] without what lies outside the image.

    Args:
      boxes: in pixels; their corners move to the nearest point of the image.
      height, width: of the image; arrays broadcast with boxes' leading axes.
    """
    x1, y1, x2, y2 = _edges(boxes)
    clipped = jnp.clip(x1, 0, width), jnp.clip(y1, 0, height)
    return jnp.stack((*clipped, jnp.clip(x2, 0, width), jnp.clip(y2, 0, height)), axis=-1)


def encode_boxes(
    boxes: jax.Array, anchors: jax.Array, weights: Weights = (1.0, 1.0, 1.0, 1.0)
) -> jax.Array:
    """What a network should say of anchors so that they become these boxes.

    Faster R-CNN's code (Ren et al. 2015, arXiv 1506.01497, equation 2): the offset of the centre in
    widths and heights of the anchor, and the logarithm of the ratio of sizes. Widths and heights
    that are not positive, as padding has, count as 1 pixel: their codes mean nothing, but are
    finite.

    Args:
      boxes, anchors: [..., 4]; they broadcast with each other.
      weights: what the code's numbers are multiplied by: x, y, width, height.

    Returns:
      [..., 4]: x, y, width, height.
    """
    centre, size = _centre_and_size(boxes)
    anchor_centre, anchor_size = _centre_and_size(anchors)
    size, anchor_size = _positive(size), _positive(anchor_size)
    offset = (centre - anchor_centre) / anchor_size
    code = jnp.concatenate(jnp.broadcast_arrays(offset, jnp.log(size / anchor_size)), axis=-1)
    return code * jnp.asarray(weights, code.dtype)


def decode_boxes(
    deltas: jax.Array,
    anchors: jax.Array,
    weights: Weights = (1.0, 1.0, 1.0, 1.0),
    max_ratio: float = MAX_LOG_RATIO,
) -> jax.Array:
    """The boxes that a network's output means; the inverse of `encode_boxes`.

    Args:
      deltas: [..., 4], the network's output.
      anchors: [..., 4]; they broadcast with each other.
      weights: as they were encoded with.
      max_ratio: the logarithm of the greatest ratio of a box's size to its anchor's.
    """
    centre, size = _centre_and_size(anchors)
    deltas = deltas / jnp.asarray(weights, deltas.dtype)
    centre = deltas[..., :2] * size + centre
    half = jnp.exp(jnp.minimum(deltas[..., 2:], max_ratio)) * size / 2
    return jnp.concatenate((centre - half, centre + half), axis=-1)


def encode_distances(boxes: jax.Array, anchors: jax.Array) -> jax.Array:
    """The distances of boxes' edges from the centres of anchors, in sizes of the anchor.

    FCOS's code (Tian et al. 2019, arXiv 1904.01355, equation 1), divided by the anchor's width and
    height. They are negative where the centre lies outside the box. Widths and heights of anchors
    that are not positive, as padding has, count as 1 pixel.

    Args:
      boxes, anchors: [..., 4]; they broadcast with each other.

    Returns:
      [..., 4]: left, top, right, bottom.
    """
    centre, size = _centre_and_size(anchors)
    size = _positive(size)
    before, after = (centre - boxes[..., :2]) / size, (boxes[..., 2:] - centre) / size
    return jnp.concatenate((before, after), axis=-1)


def decode_distances(distances: jax.Array, anchors: jax.Array) -> jax.Array:
    """The boxes whose edges are at these distances; the inverse of `encode_distances`."""
    centre, size = _centre_and_size(anchors)
    before, after = distances[..., :2] * size, distances[..., 2:] * size
    return jnp.concatenate((centre - before, centre + after), axis=-1)


def _edges(boxes: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]


def _intersection(boxes: jax.Array, others: jax.Array) -> jax.Array:
    x1, y1, x2, y2 = _edges(boxes)
    other_x1, other_y1, other_x2, other_y2 = _edges(others)
    width = jnp.minimum(x2, other_x2) - jnp.maximum(x1, other_x1)
    height = jnp.minimum(y2, other_y2) - jnp.maximum(y1, other_y1)
    # A comparison, not a maximum with 0: where boxes only touch, the gradient is 0.
    return jnp.where((width > 0) & (height > 0), width * height, 0)


def _centre_and_size(boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
    size = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + size / 2, size


def _positive(size: jax.Array) -> jax.Array:
    return jnp.where(size > 0, size, 1)
