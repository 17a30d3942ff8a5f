"""FCOS, which has a point for an anchor.

Tian et al. 2020, arXiv 2006.09214, with centre sampling as in torchvision's.
"""

from typing import Unpack

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from zoo.detection.boxes import box_area, decode_distances, encode_distances
from zoo.detection.losses import giou_loss, sigmoid_focal_loss
from zoo.detection.models.anchors import make_anchors
from zoo.detection.models.detector import HeadOutputs, flatten_maps, register_detector
from zoo.detection.models.matching import BACKGROUND, Truth, pick, with_room
from zoo.detection.models.pyramid import Predictor
from zoo.detection.models.pyramid_detector import (
    PRIOR_LOGIT,
    PyramidDetector,
    PyramidDetectorOptions,
)

# Of each map: one square as large as its stride, whose centre is the point.
SIZES = ((8,), (16,), (32,), (64,), (128,))
# An object's points are so near its centre, in strides.
CENTRE_RADIUS = 1.5
# A map has the objects of whose edges the farthest is so many strides from the point.
NEAREST, FARTHEST = 4, 8


class FCOS(PyramidDetector, kw_only=True):
    """FCOS on a feature pyramid.

    Modules: as RetinaNet's, with group norms, and centerness_head/conv.
    """

    score_threshold: float = 0.2
    nms_threshold: float = 0.6

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> HeadOutputs:
        """Images [N, H, W, C] → what the heads compute."""
        self.check_images(x, train)
        options = self.layer_options
        by_class, by_box = self.apply_towers(x, train, extra="p5", group_norm=True, use_bias=True)
        logits = Predictor(1, self.num_classes, options, bias=PRIOR_LOGIT, name="class_head")
        distances = Predictor(1, 4, options, name="box_head")(by_box)
        centerness = Predictor(1, 1, options, name="centerness_head")(by_box)
        return HeadOutputs(
            logits(by_class),
            tuple(nn.relu(each) for each in distances),
            centerness,
            (x.shape[1], x.shape[2]),
        )

    @nn.nowrap
    def anchors(self, outputs: HeadOutputs) -> tuple[jax.Array, ...]:
        """The squares around the points of each map, [H · W, 4]."""
        made = make_anchors(outputs.grid_sizes, outputs.image_size, SIZES, (1.0,))
        return tuple(map(jnp.asarray, made))

    @nn.nowrap
    def decode(self, deltas: jax.Array, anchors: jax.Array) -> jax.Array:
        """The boxes that the heads mean, [A, 4]."""
        return decode_distances(deltas, anchors)

    @nn.nowrap
    def losses(self, outputs: HeadOutputs, truth: Truth) -> dict[str, jax.Array]:
        """{"classification", "box", "centerness"}: sums, divided by the number of objects' points.

        Focal loss, GIoU, and cross-entropy.
        """
        levels = self.anchors(outputs)
        anchors = jnp.concatenate(levels)
        counts = [len(level) for level in levels]
        low, high = (
            jnp.repeat(jnp.asarray(row), jnp.asarray(counts), total_repeat_length=len(anchors))
            for row in _distance_ranges(len(levels))
        )

        def of_image(
            logits: jax.Array,
            distances: jax.Array,
            centerness: jax.Array,
            boxes: jax.Array,
            labels: jax.Array,
        ) -> tuple[jax.Array, dict[str, jax.Array]]:
            matched = match_points(boxes, labels >= 0, anchors, low, high)
            found = matched >= 0
            classes = jnp.where(found, pick(labels, matched), -1)
            focal = sigmoid_focal_loss(logits, jax.nn.one_hot(classes, self.num_classes))
            objects = jnp.where(found[:, None], pick(boxes, matched), anchors)
            wanted = encode_distances(objects, anchors)
            pairs = wanted[:, 0::2], wanted[:, 1::2]  # left and right, top and bottom
            target = jnp.sqrt(
                jnp.prod(jnp.stack([pair.min(-1) / pair.max(-1) for pair in pairs]), 0)
            )
            losses = {
                "box": giou_loss(decode_distances(distances, anchors), objects),
                "centerness": optax.sigmoid_binary_cross_entropy(centerness[:, 0], target),
            }
            sums = {name: jnp.where(found, loss, 0).sum() for name, loss in losses.items()}
            return found.sum(), {"classification": focal.sum(), **sums}

        numbers, sums = jax.vmap(of_image)(
            flatten_maps(outputs.logits),
            flatten_maps(outputs.deltas),
            flatten_maps(outputs.centerness),
            *with_room(truth),
        )
        count = jnp.maximum(numbers.sum(), 1)
        return {name: values.sum() / count for name, values in sums.items()}


def _distance_ranges(levels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The least and the largest distances, in pixels, of the objects of each map."""
    sizes = [size for (size,) in SIZES[:levels]]
    low = (0.0, *(float(NEAREST * size) for size in sizes[1:]))
    high = (*(float(FARTHEST * size) for size in sizes[:-1]), float("inf"))
    return low, high


def match_points(
    boxes: jax.Array, valid: jax.Array, anchors: jax.Array, low: jax.Array, high: jax.Array
) -> jax.Array:
    """The object that each point belongs to: of those that fit the smallest, or BACKGROUND.

    Args:
      boxes: of objects, [T, 4].
      valid: which of them there are, [T].
      anchors: squares around the points, [A, 4].
      low, high: between which the distance to an object's farthest edge is, [A].
    """
    points = (anchors[:, None, :2] + anchors[:, None, 2:]) / 2
    sizes = (anchors[:, 2] - anchors[:, 0])[:, None]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    is_near = jnp.abs(points - centres).max(-1) < CENTRE_RADIUS * sizes
    distances = jnp.concatenate([points - boxes[:, :2], boxes[:, 2:] - points], -1)
    farthest = distances.max(-1)
    fits = is_near & (distances.min(-1) > 0) & valid
    fits &= (farthest > low[:, None]) & (farthest < high[:, None])
    areas = jnp.where(fits, box_area(boxes), jnp.inf)
    return jnp.where(fits.any(1), areas.argmin(1), BACKGROUND)


@register_detector(800)
def FCOS_ResNet50_FPN(**options: Unpack[PyramidDetectorOptions]) -> FCOS:
    """FCOS: 32.3 million parameters at 91 classes."""
    return FCOS(**options)
