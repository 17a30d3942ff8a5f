"""What the first stage of Faster R-CNN proposes, and what both stages' losses are about."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zoo.detection.boxes import clip_boxes, decode_boxes, encode_boxes
from zoo.detection.models.matching import BACKGROUND, Truth, match, pick, sample, with_room
from zoo.detection.nms import batched_nms
from zoo.detection.selection import top_scores

PROPOSAL_CODE = (1.0, 1.0, 1.0, 1.0)
BOX_CODE = (10.0, 10.0, 5.0, 5.0)
MIN_SIDE = 1e-3  # of proposals, in pixels


class Counts(NamedTuple):
    """How many boxes there are at each step.

    Args:
      candidates: of each map, before suppression.
      proposals: of an image, after it.
    """

    candidates: int
    proposals: int


class Samples(NamedTuple):
    """What the loss of Faster R-CNN compares.

    Args:
      objects, background: which anchors count for the proposals' loss, [N, A].
      codes: what these anchors' deltas should be, [N, A, 4].
      labels: of the proposals, [N, R]; 0 is the background.
      box_codes: what the deltas of these should be, [N, R, 4].
      counted: which proposals count, [N, R].
    """

    objects: jax.Array
    background: jax.Array
    codes: jax.Array
    labels: jax.Array
    box_codes: jax.Array
    counted: jax.Array


def find_proposals(
    objectness: tuple[jax.Array, ...],
    deltas: tuple[jax.Array, ...],
    anchors: tuple[jax.Array, ...],
    sizes: jax.Array,
    counts: Counts,
    *,
    score_threshold: float = 0.0,
    nms_threshold: float = 0.7,
) -> tuple[jax.Array, jax.Array]:
    """Boxes that may be objects, the likeliest of all maps, without those that others cover.

    No gradient passes through them.

    Args:
      objectness, deltas: of each map [N, H, W, anchors, 1] and [N, H, W, anchors, 4].
      anchors: of each map.
      sizes: heights and widths of the images without what pads them, [N, 2].
      counts: how many are looked at and kept.
      score_threshold: what is less likely is left out.
      nms_threshold: of boxes of a map with a larger IoU only the likeliest is kept.

    Returns:
      (boxes [N, proposals, 4], how many there are [N]); 0 behind the last one.
    """
    flat = [
        tuple(jax.lax.stop_gradient(x.reshape(x.shape[0], -1, x.shape[-1])) for x in maps)
        for maps in (objectness, deltas)
    ]

    def of_image(image: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
        objectness, deltas, size = image
        boxes, scores, numbers = [], [], []
        for number, (logits, codes, here) in enumerate(
            zip(objectness, deltas, anchors, strict=True)
        ):
            best, places = top_scores(logits[:, 0], min(counts.candidates, len(here)))
            places = jnp.maximum(places, 0)
            decoded = decode_boxes(codes[places], here[places], PROPOSAL_CODE)
            boxes.append(clip_boxes(decoded, size[0], size[1]))
            scores.append(jax.nn.sigmoid(best))
            numbers.append(jnp.full(len(best), number))
        all_boxes, likely, levels = map(jnp.concatenate, (boxes, scores, numbers))
        valid = are_large(all_boxes, MIN_SIDE) & (likely >= score_threshold)
        likely = jnp.where(valid, likely, -jnp.inf)
        kept, count = batched_nms(
            all_boxes, likely, levels, nms_threshold, max_outputs=counts.proposals
        )
        is_there = jnp.arange(counts.proposals) < count
        return jnp.where(is_there[:, None], all_boxes[jnp.maximum(kept, 0)], 0), count

    boxes, numbers = jax.lax.map(of_image, (*flat, sizes))
    return boxes, numbers


def draw_samples(
    key: jax.Array,
    anchors: jax.Array,
    proposals: jax.Array,
    counts: jax.Array,
    truth: Truth,
    anchor_samples: int,
    box_samples: int,
) -> tuple[Samples, jax.Array]:
    """What the loss compares, and the proposals that it is about; the objects are among them.

    Args:
      key: a random key.
      anchors: of all maps.
      proposals, counts: as `find_proposals` gives them.
      truth: the objects.
      anchor_samples: how many anchors of an image count, at most half of them objects.
      box_samples: how many proposals of an image count, at most a quarter of them objects.
    """

    def of_image(
        key: jax.Array,
        proposals: jax.Array,
        count: jax.Array,
        boxes: jax.Array,
        labels: jax.Array,
    ) -> tuple[Samples, jax.Array]:
        there = labels >= 0
        keys = jax.random.split(key)
        matched = match(boxes, there, anchors, low=0.3, high=0.7, keep_best=True)
        found, background = matched >= 0, matched == BACKGROUND
        objects, others = sample(keys[0], found, background, anchor_samples, 0.5)
        targets = jnp.where(found[:, None], pick(boxes, matched), anchors)
        codes = encode_boxes(targets, anchors, PROPOSAL_CODE)
        every = jnp.concatenate([proposals, boxes])
        valid = jnp.concatenate([jnp.arange(len(proposals)) < count, there])
        matched = match(boxes, there, every, low=0.5, high=0.5)
        found = (matched >= 0) & valid
        positive, negative = sample(keys[1], found, ~found & valid, box_samples, 0.25)
        drawn = positive | negative
        # Their places, in order. Where they are fewer they come again without counting, so that
        # batch norms see no other boxes.
        numbers = jnp.arange(min(box_samples, len(every)))
        places = jnp.argsort(~drawn, stable=True)[numbers % jnp.maximum(drawn.sum(), 1)]
        chosen, matched = every[places], matched[places]
        classes = jnp.where(matched >= 0, pick(labels, matched), 0)
        targets = jnp.where((matched >= 0)[:, None], pick(boxes, matched), chosen)
        box_codes = encode_boxes(targets, chosen, BOX_CODE)
        counted = numbers < drawn.sum()
        samples = Samples(objects, others, codes, jnp.maximum(classes, 0), box_codes, counted)
        return samples, chosen

    keys = jax.random.split(key, len(proposals))
    return jax.vmap(of_image)(keys, proposals, counts, *with_room(truth))


def are_large(boxes: jax.Array, side: float) -> jax.Array:
    """Whether boxes [..., 4] are at least so wide and high, in pixels."""
    return (boxes[..., 2:] - boxes[..., :2] >= side).all(-1)
