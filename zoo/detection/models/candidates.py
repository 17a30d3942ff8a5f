"""From what the heads of a pyramid compute to boxes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from zoo.detection.boxes import clip_boxes
from zoo.detection.models.detector import HeadOutputs, Predictions
from zoo.detection.nms import batched_nms
from zoo.detection.selection import top_scores

# (deltas, anchors) → boxes.
Decode = Callable[[jax.Array, jax.Array], jax.Array]


def find_detections(
    outputs: HeadOutputs,
    sizes: jax.Array,
    anchors: Sequence[jax.Array],
    decode: Decode,
    *,
    score_threshold: float,
    nms_threshold: float,
    max_detections: int,
    candidates: int,
) -> Predictions:
    """The likeliest boxes of a batch, each class of each anchor being a candidate.

    Args:
      outputs: of the heads.
      sizes: heights and widths of the images without what pads them, [N, 2].
      anchors: of each map.
      decode: makes boxes of the outputs and the anchors.
      score_threshold, nms_threshold, max_detections: see `Detector`.
      candidates: how many of each map are looked at.
    """

    def of_image(image: tuple[Any, ...]) -> Predictions:
        logits, deltas, centerness, size = image
        found, finite = [], []
        for number, level in enumerate(logits):
            centres = centerness[number] if centerness else None
            *chosen, is_finite = _choose(
                level, deltas[number], centres, anchors[number], candidates, score_threshold
            )
            found.append(chosen)
            finite.append(is_finite)
        scores, labels, codes, squares = (
            jnp.concatenate(each) for each in zip(*found, strict=True)
        )
        boxes = clip_boxes(decode(codes, squares), size[0], size[1])
        kept, count = batched_nms(boxes, scores, labels, nms_threshold, max_outputs=max_detections)
        kept = jnp.maximum(kept, 0)
        return gather(boxes[kept], scores[kept], labels[kept], count, jnp.stack(finite).all())

    flat = [
        tuple(x.reshape(x.shape[0], -1, x.shape[-1]) for x in maps)
        for maps in (outputs.logits, outputs.deltas, outputs.centerness)
    ]
    # Image by image: each has as many rounds of suppression as it needs.
    return jax.lax.map(of_image, (*flat, sizes.astype(jnp.float32)))


def _choose(
    logits: jax.Array,
    deltas: jax.Array,
    centerness: jax.Array | None,
    anchors: jax.Array,
    count: int,
    threshold: float,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    """The likeliest pairs of an anchor and a class of one map.

    Those of the `count` likeliest pairs are among the anchors whose best class is the likeliest,
    so that not all pairs are sorted.

    Returns:
      (scores, labels, deltas, anchors, finite); scores of -inf are none.
    """

    def score(logits: jax.Array, centerness: jax.Array | None) -> jax.Array:
        scores = jax.nn.sigmoid(logits)
        return scores if centerness is None else jnp.sqrt(scores * jax.nn.sigmoid(centerness))

    best = score(logits.max(-1), None if centerness is None else centerness[:, 0])
    finite = jnp.isfinite(best).all() & jnp.isfinite(deltas).all()
    places = jnp.maximum(top_scores(best, min(count, len(best)))[1], 0)
    classes = logits.shape[-1]
    scores = score(logits[places], None if centerness is None else centerness[places])
    scores, pairs = top_scores(scores.ravel(), min(count, scores.size), threshold)
    pairs = jnp.maximum(pairs, 0)
    places = places[pairs // classes]
    return scores, pairs % classes, deltas[places], anchors[places], finite


def gather(
    boxes: jax.Array, scores: jax.Array, labels: jax.Array, count: jax.Array, finite: jax.Array
) -> Predictions:
    """The predictions of one image: zeros behind the last one.

    Args:
      boxes: [D, 4].
      scores, labels: [D].
      count: how many there are.
      finite: whether all that was computed is finite.
    """
    is_there = jnp.arange(len(scores)) < count
    return Predictions(
        jnp.where(is_there[:, None], boxes, 0),
        jnp.where(is_there, scores, 0),
        jnp.where(is_there, labels, 0),
        count,
        finite,
    )
