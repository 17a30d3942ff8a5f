"""Which object each anchor stands for in training, and which anchors count."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from zoo.detection.boxes import box_iou

# What an anchor without an object has in place of the object's number.
BACKGROUND, IGNORED = -1, -2


class Truth(NamedTuple):
    """The objects in a batch of images.

    Args:
      boxes: [N, T, 4], in pixels of the images as the model sees them.
      labels: [N, T], the numbers of their classes, from 1; -1 fills up to T.
    """

    boxes: jax.Array
    labels: jax.Array


def with_room(truth: Truth) -> Truth:
    """The truth with room for one object where it has none, as the best of nothing is undefined."""
    if truth.labels.shape[1] > 0:
        return truth
    batch = truth.labels.shape[0]
    return Truth(jnp.zeros((batch, 1, 4)), jnp.full((batch, 1), -1))


def match(
    boxes: jax.Array,
    valid: jax.Array,
    anchors: jax.Array,
    *,
    low: float,
    high: float,
    keep_best: bool = False,
) -> jax.Array:
    """The object that each anchor covers best (Ren et al. 2015, arXiv 1506.01497, section 3.1.2).

    Args:
      boxes: of objects, [T, 4].
      valid: which of them there are, [T].
      anchors: [A, 4].
      low: below this IoU an anchor is background; from here to `high` it is ignored.
      high: from this IoU on an anchor is the object's.
      keep_best: each object also has the anchors that cover it best, however little.

    Returns:
      [A] numbers of objects, BACKGROUND or IGNORED.
    """
    overlaps = jnp.where(valid[:, None], box_iou(boxes, anchors), -1.0)
    best, matched = overlaps.max(0), overlaps.argmax(0)
    result = jnp.where(best >= high, matched, jnp.where(best >= low, IGNORED, BACKGROUND))
    if keep_best:
        highest = overlaps.max(1, keepdims=True)
        is_best = ((overlaps == highest) & valid[:, None]).any(0)
        result = jnp.where(is_best, matched, result)
    return result


def match_default_boxes(
    boxes: jax.Array, valid: jax.Array, anchors: jax.Array, threshold: float
) -> jax.Array:
    """As `match`, but the one anchor that covers an object best is that object's (SSD).

    Where one anchor is best for several, it is the last one's.
    """
    matched = match(boxes, valid, anchors, low=threshold, high=threshold)
    overlaps = jnp.where(valid[:, None], box_iou(boxes, anchors), -1.0)
    is_best = overlaps.argmax(1)[:, None] == jnp.arange(len(anchors))
    numbers = jnp.arange(len(boxes))[:, None]
    forced = jnp.where(is_best & valid[:, None], numbers, -1).max(0)
    return jnp.where(forced >= 0, forced, matched)


def sample(
    key: jax.Array,
    positive: jax.Array,
    negative: jax.Array,
    count: int,
    positive_fraction: float,
) -> tuple[jax.Array, jax.Array]:
    """Draws anchors for the loss: at most a share of objects, the rest background.

    Args:
      key: a random key.
      positive, negative: which anchors are objects, and which background: [A] each.
      count: how many to draw.
      positive_fraction: the largest share of objects.

    Returns:
      Which are drawn, objects and background: [A] each.
    """
    priority = jax.random.uniform(key, positive.shape)
    most = int(count * positive_fraction)
    drawn_positive = _draw(priority, positive, most, jnp.asarray(most))
    return drawn_positive, _draw(priority, negative, count, count - drawn_positive.sum())


def _draw(priority: jax.Array, candidates: jax.Array, most: int, count: jax.Array) -> jax.Array:
    """Which `count` of the candidates have the highest priority; `most` is a bound of it."""
    most = min(most, len(candidates))
    best, places = jax.lax.top_k(jnp.where(candidates, priority, -1.0), most)
    drawn = (best >= 0) & (jnp.arange(most) < count)
    return jnp.zeros_like(candidates).at[places].set(drawn)


def pick(values: jax.Array, matched: jax.Array) -> jax.Array:
    """The objects' values [T, …] for each anchor [A, …]; any for anchors without an object."""
    return values[jnp.maximum(matched, 0)]
