"""RetinaNet.

Lin et al. 2017, arXiv 1708.02002; the second version with the group norms and the loss of boxes of
torchvision's.
"""

from typing import ClassVar, Unpack

import flax.linen as nn
import jax
import jax.numpy as jnp

from zoo.detection.boxes import decode_boxes, encode_boxes
from zoo.detection.losses import giou_loss, sigmoid_focal_loss
from zoo.detection.models.anchors import make_anchors
from zoo.detection.models.detector import HeadOutputs, flatten_maps, register_detector
from zoo.detection.models.matching import IGNORED, Truth, match, pick, with_room
from zoo.detection.models.pyramid import Predictor
from zoo.detection.models.pyramid_detector import (
    PRIOR_LOGIT,
    PyramidDetector,
    PyramidDetectorOptions,
)

# An octave in three steps for each map.
SIZES = tuple(
    (size, int(size * 2 ** (1 / 3)), int(size * 2 ** (2 / 3))) for size in (32, 64, 128, 256, 512)
)
RATIOS = (0.5, 1.0, 2.0)
CODE_WEIGHTS = (1.0, 1.0, 1.0, 1.0)


class RetinaNet(PyramidDetector, kw_only=True):
    """RetinaNet on a feature pyramid.

    Modules: backbone, pyramid/{inner1, output1 … extra7}, class_tower/conv1 …, class_head/conv,
    box_tower/conv1 …, box_head/conv.

    Args:
      version: 1, or 2 with group norms in the heads, GIoU for the boxes' loss, and the two coarsest
        maps made of the backbone's last.
    """

    architecture: ClassVar[tuple[str, ...]] = ("version",)

    version: int = 1
    max_detections: int = 300

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> HeadOutputs:
        """Images [N, H, W, C] → what the heads compute."""
        self.check_images(x, train)
        options, second = self.layer_options, self.version == 2
        by_class, by_box = self.apply_towers(
            x, train, extra="c5" if second else "p5", group_norm=second, use_bias=not second
        )
        anchors = len(RATIOS) * len(SIZES[0])
        logits = Predictor(anchors, self.num_classes, options, bias=PRIOR_LOGIT, name="class_head")
        deltas = Predictor(anchors, 4, options, name="box_head")
        return HeadOutputs(logits(by_class), deltas(by_box), (), (x.shape[1], x.shape[2]))

    @nn.nowrap
    def anchors(self, outputs: HeadOutputs) -> tuple[jax.Array, ...]:
        """The anchors of each map, [H · W · anchors, 4]."""
        made = make_anchors(outputs.grid_sizes, outputs.image_size, SIZES, RATIOS)
        return tuple(map(jnp.asarray, made))

    @nn.nowrap
    def decode(self, deltas: jax.Array, anchors: jax.Array) -> jax.Array:
        """The boxes that the heads mean, [A, 4]."""
        return decode_boxes(deltas, anchors, CODE_WEIGHTS)

    @nn.nowrap
    def losses(self, outputs: HeadOutputs, truth: Truth) -> dict[str, jax.Array]:
        """{"classification", "box"}: means over the images, each divided by its objects' anchors.

        Of the classification it is the focal loss; of the boxes L1 of their code, or GIoU.
        """
        anchors = jnp.concatenate(self.anchors(outputs))

        def of_image(
            logits: jax.Array, deltas: jax.Array, boxes: jax.Array, labels: jax.Array
        ) -> dict[str, jax.Array]:
            matched = match(boxes, labels >= 0, anchors, low=0.4, high=0.5, keep_best=True)
            found = matched >= 0
            classes = jnp.where(found, pick(labels, matched), -1)
            targets = jax.nn.one_hot(classes, self.num_classes)
            focal = sigmoid_focal_loss(logits, targets).sum(-1)
            # Any box will do for the others, but its code must be finite for the gradient's sake.
            objects = jnp.where(found[:, None], pick(boxes, matched), anchors)
            if self.version == 2:
                loss = giou_loss(decode_boxes(deltas, anchors, CODE_WEIGHTS), objects)
            else:
                loss = jnp.abs(deltas - encode_boxes(objects, anchors, CODE_WEIGHTS)).sum(-1)
            count = jnp.maximum(found.sum(), 1)
            return {
                "classification": jnp.where(matched != IGNORED, focal, 0).sum() / count,
                "box": jnp.where(found, loss, 0).sum() / count,
            }

        logits, deltas = flatten_maps(outputs.logits), flatten_maps(outputs.deltas)
        each = jax.vmap(of_image)(logits, deltas, *with_room(truth))
        return {name: values.mean() for name, values in each.items()}


@register_detector(800)
def RetinaNet_ResNet50_FPN(**options: Unpack[PyramidDetectorOptions]) -> RetinaNet:
    """RetinaNet: 34.1 million parameters at 91 classes."""
    return RetinaNet(**options)


@register_detector(800)
def RetinaNet_ResNet50_FPN_V2(**options: Unpack[PyramidDetectorOptions]) -> RetinaNet:
    """RetinaNet, second version: 38.2 million parameters at 91 classes."""
    return RetinaNet(version=2, **options)
