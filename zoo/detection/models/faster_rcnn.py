"""Faster R-CNN.

Ren et al. 2015, arXiv 1506.01497, on a feature pyramid (Lin et al. 2017, arXiv 1612.03144); the
second version with the heads of Li et al. 2021, arXiv 2111.11429.
"""

import dataclasses
import functools
from typing import Any, ClassVar, Unpack

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from zoo.detection.boxes import clip_boxes, decode_boxes
from zoo.detection.losses import smooth_l1
from zoo.detection.models.anchors import GridSize, make_anchors
from zoo.detection.models.candidates import gather
from zoo.detection.models.detector import (
    Detector,
    DetectorOptions,
    Predictions,
    flatten_maps,
    register_detector,
)
from zoo.detection.models.matching import Truth
from zoo.detection.models.proposals import (
    BOX_CODE,
    Counts,
    Samples,
    are_large,
    draw_samples,
    find_proposals,
)
from zoo.detection.models.pyramid import FeaturePyramid, Predictor
from zoo.detection.nms import multiclass_nms
from zoo.detection.roi_align import multiscale_roi_align
from zoo.models.base import find_model
from zoo.models.initializers import Normal
from zoo.models.layers import Conv, ConvNorm, Dense, promote_to_float32

CHANNELS, HIDDEN = 256, 1024
POOLED, SAMPLES = 7, 2  # height and width of what is cut out of the maps; samples of each pixel
RATIOS = (0.5, 1.0, 2.0)
SIZES = (32, 64, 128, 256, 512)
BETA = 1 / 9  # of smooth L1
MIN_SIDE = 1e-2  # of boxes, in pixels


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "objectness",
        "anchor_deltas",
        "proposals",
        "proposal_counts",
        "logits",
        "deltas",
        "samples",
    ],
    meta_fields=["image_size"],
)
@dataclasses.dataclass(frozen=True)
class TwoStageOutputs:
    """What the heads of a detector of two stages compute.

    Args:
      objectness: for each map of the pyramid [N, H, W, anchors, 1] logits.
      anchor_deltas: for each map [N, H, W, anchors, 4], by which anchors become proposals.
      proposals: [N, R, 4]; in training those that are drawn for the loss.
      proposal_counts: how many there are, [N].
      logits: [N, R, num_classes].
      deltas: [N, R, num_classes, 4], by which proposals become boxes.
      samples: in training, with the truth; else None.
      image_size: the height and width of the images.
    """

    objectness: tuple[jax.Array, ...]
    anchor_deltas: tuple[jax.Array, ...]
    proposals: jax.Array
    proposal_counts: jax.Array
    logits: jax.Array
    deltas: jax.Array
    samples: Samples | None
    image_size: GridSize


class FasterRCNN(Detector, kw_only=True):
    """Faster R-CNN on a feature pyramid.

    Modules: backbone, pyramid/{inner1, output1 …}, proposal_conv1 …, objectness/conv,
    anchor_deltas/conv, box_conv1 …, fc6, fc7, class_head, box_head.

    Args:
      version: 1, or 2 with norms in the pyramid, two convolutions before the proposals, and four
        in the head.
      taps: the paths of the backbone's outputs to read; by default those of strides 4 to 32.
      proposal_threshold: proposals that are less likely are left out.
      candidates, proposals: how many of each map are looked at, and of an image are kept.
      training_candidates, training_proposals: the same in training.
      anchor_samples, box_samples: anchors and proposals of an image that count in the loss.
    """

    architecture: ClassVar[tuple[str, ...]] = ("version", "taps")
    classifier: ClassVar[tuple[str, ...]] = ("box_head", "class_head")

    version: int = 1
    taps: tuple[str, ...] = ()
    proposal_threshold: float = 0.0
    candidates: int = 1000
    proposals: int = 1000
    training_candidates: int = 2000
    training_proposals: int = 2000
    anchor_samples: int = 256
    box_samples: int = 512

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        sizes: jax.Array | None = None,
        truth: Truth | None = None,
    ) -> TwoStageOutputs:
        """Images [N, H, W, C] → what the heads compute.

        Args:
          x: the images.
          train: as of every model.
          sizes: the heights and widths of the images without what pads them, [N, 2]; by default
            nothing pads them.
          truth: for training; draws from the rng "dropout" which boxes count.
        """
        self.check_images(x, train)
        options, second = self.layer_options, self.version == 2
        image_size = x.shape[1], x.shape[2]
        if sizes is None:
            sizes = jnp.broadcast_to(jnp.asarray(image_size, jnp.float32), (len(x), 2))
        sizes = sizes.astype(jnp.float32)
        maps = list(self.make_backbone((4, 8, 16, 32), self.taps or None)(x, train).values())
        levels = FeaturePyramid(CHANNELS, "pool", second, options, name="pyramid")(maps, train)
        objectness, anchor_deltas = self._score_anchors(levels)
        anchors = self.anchors(objectness, image_size)
        counts = self._counts(train or truth is not None)
        proposals, number = find_proposals(
            objectness,
            anchor_deltas,
            anchors,
            sizes,
            counts,
            score_threshold=self.proposal_threshold,
        )
        samples = None
        if truth is not None:
            key = self.make_rng("dropout")
            samples, proposals = draw_samples(
                key,
                jnp.concatenate(anchors),
                proposals,
                number,
                truth,
                self.anchor_samples,
                self.box_samples,
            )
            number = samples.counted.sum(1)
        logits, deltas = self._classify(levels[: len(maps)], proposals, image_size, train)
        return TwoStageOutputs(
            objectness, anchor_deltas, proposals, number, logits, deltas, samples, image_size
        )

    @nn.nowrap
    def _counts(self, training: bool) -> Counts:
        if training:
            return Counts(self.training_candidates, self.training_proposals)
        return Counts(self.candidates, self.proposals)

    @nn.nowrap
    def anchors(
        self, objectness: tuple[jax.Array, ...], image_size: GridSize
    ) -> tuple[jax.Array, ...]:
        """The anchors of each map, [H · W · anchors, 4]."""
        grids = tuple((x.shape[1], x.shape[2]) for x in objectness)
        made = make_anchors(grids, image_size, self.anchor_sizes(len(grids)), RATIOS)
        return tuple(map(jnp.asarray, made))

    @nn.nowrap
    def anchor_sizes(self, levels: int) -> tuple[tuple[int, ...], ...]:
        """Of each map; where the maps are not five, each has all sizes."""
        return tuple((size,) for size in SIZES) if levels == len(SIZES) else (SIZES,) * levels

    def _score_anchors(
        self, levels: list[jax.Array]
    ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        """Whether anchors are objects, and what the boxes of these are."""
        options = self.layer_options
        for number in range(1, 1 + self.version):
            conv = Conv(
                CHANNELS,
                3,
                use_bias=True,
                act="relu",
                kernel_init=Normal(0.01),
                options=options,
                name=f"proposal_conv{number}",
            )
            levels = [conv(x) for x in levels]
        count = len(RATIOS) * len(self.anchor_sizes(len(levels))[0])
        objectness = Predictor(count, 1, options, kernel_size=1, name="objectness")
        deltas = Predictor(count, 4, options, kernel_size=1, name="anchor_deltas")
        return objectness(levels), deltas(levels)

    def _classify(
        self, levels: list[jax.Array], proposals: jax.Array, image_size: GridSize, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """The logits and deltas of proposals."""
        options = self.layer_options
        batch, count = proposals.shape[:2]
        x = multiscale_roi_align(
            levels, proposals, image_size, output_size=POOLED, sampling_ratio=SAMPLES
        )
        x = x.reshape(batch * count, POOLED, POOLED, CHANNELS)
        if self.version == 2:
            for number in range(1, 5):
                x = ConvNorm(CHANNELS, 3, options=options, name=f"box_conv{number}")(x, train)
        x = Dense(HIDDEN, act="relu", options=options, name="fc6")(x.reshape(batch * count, -1))
        if self.version == 1:
            x = Dense(HIDDEN, act="relu", options=options, name="fc7")(x)
        logits = Dense(self.num_classes, options=options, name="class_head")(x)
        deltas = Dense(4 * self.num_classes, options=options, name="box_head")(x)
        return (
            promote_to_float32(logits).reshape(batch, count, -1),
            promote_to_float32(deltas).reshape(batch, count, -1, 4),
        )

    @nn.nowrap
    def apply_arguments(self, sizes: jax.Array, truth: Truth | None = None) -> dict[str, Any]:
        """Proposals end at the images' edges, and in training are compared with the truth."""
        return {"sizes": sizes, "truth": truth}

    @nn.nowrap
    def predict(self, outputs: TwoStageOutputs, sizes: jax.Array) -> Predictions:
        """The objects in a batch; see `Detector.predict`."""

        def of_image(image: tuple[jax.Array, ...]) -> Predictions:
            logits, deltas, proposals, count, size = image
            boxes = decode_boxes(deltas, proposals[:, None], BOX_CODE)[:, 1:]
            boxes = clip_boxes(boxes, size[0], size[1])
            scores = jax.nn.softmax(logits, -1)[:, 1:]
            finite = jnp.isfinite(scores).all() & jnp.isfinite(deltas).all()
            valid = (jnp.arange(len(proposals)) < count)[:, None] & are_large(boxes, MIN_SIDE)
            likely = jnp.where(valid & (scores > self.score_threshold), scores, -jnp.inf)
            kept, labels, count = multiclass_nms(
                boxes, likely, self.nms_threshold, max_outputs=self.max_detections
            )
            places = jnp.maximum(kept, 0), jnp.maximum(labels, 0)
            return gather(boxes[places], scores[places], labels + 1, count, finite)

        return jax.lax.map(
            of_image,
            (
                outputs.logits,
                outputs.deltas,
                outputs.proposals,
                outputs.proposal_counts,
                sizes.astype(jnp.float32),
            ),
        )

    @nn.nowrap
    def losses(self, outputs: TwoStageOutputs, truth: Truth) -> dict[str, jax.Array]:
        """{"classification", "box", "objectness", "proposal"}: means over what was drawn.

        Cross-entropy and smooth L1 of the boxes' code, of both stages. The truth is that which the
        model was called with.
        """
        samples = outputs.samples
        if samples is None:
            raise ValueError("losses must be of what the model gave with its truth")
        objectness = flatten_maps(outputs.objectness)[..., 0]
        deltas = flatten_maps(outputs.anchor_deltas)
        drawn = samples.objects | samples.background
        entropy = optax.sigmoid_binary_cross_entropy(
            objectness, samples.objects.astype(jnp.float32)
        )
        code_loss = smooth_l1(deltas, samples.codes, BETA).sum(-1)
        log = optax.softmax_cross_entropy_with_integer_labels(outputs.logits, samples.labels)
        chosen = jnp.take_along_axis(outputs.deltas, samples.labels[..., None, None], 2)[:, :, 0]
        box_loss = smooth_l1(chosen, samples.box_codes, BETA).sum(-1)
        anchors = jnp.maximum(drawn.sum(), 1)
        boxes = jnp.maximum(samples.counted.sum(), 1)
        matched = samples.counted & (samples.labels > 0)
        return {
            "classification": jnp.where(samples.counted, log, 0).sum() / boxes,
            "box": jnp.where(matched, box_loss, 0).sum() / boxes,
            "objectness": jnp.where(drawn, entropy, 0).sum() / anchors,
            "proposal": jnp.where(samples.objects, code_loss, 0).sum() / anchors,
        }


class FasterRCNNOptions(DetectorOptions, total=False):
    """Arguments of the constructors; see `FasterRCNN`."""

    proposal_threshold: float
    candidates: int
    proposals: int
    training_candidates: int
    training_proposals: int
    anchor_samples: int
    box_samples: int


@register_detector(800)
def FasterRCNN_ResNet50_FPN(**options: Unpack[FasterRCNNOptions]) -> FasterRCNN:
    """Faster R-CNN: 41.8 million parameters at 91 classes."""
    return FasterRCNN(**options)


@register_detector(800)
def FasterRCNN_ResNet50_FPN_V2(**options: Unpack[FasterRCNNOptions]) -> FasterRCNN:
    """Faster R-CNN, second version: 43.7 million parameters at 91 classes."""
    return FasterRCNN(version=2, **options)


def _on_mobilenet(**options: Unpack[FasterRCNNOptions]) -> FasterRCNN:
    defaults: Any = {
        "backbone": "MobileNetV3_Large",
        "taps": ("stage5/block1", "conv_head"),
        "proposal_threshold": 0.05,
    }
    other = options.get("backbone", "MobileNetV3_Large")
    if find_model(other).name != "MobileNetV3_Large":
        del defaults["taps"]
    return FasterRCNN(**{**defaults, **options})


@register_detector(800)
def FasterRCNN_MobileNetV3_Large_FPN(**options: Unpack[FasterRCNNOptions]) -> FasterRCNN:
    """Faster R-CNN on MobileNetV3: 19.4 million parameters at 91 classes."""
    return _on_mobilenet(**options)


@register_detector(320)
def FasterRCNN_MobileNetV3_Large_320_FPN(**options: Unpack[FasterRCNNOptions]) -> FasterRCNN:
    """Faster R-CNN on MobileNetV3, for 320 pixels: 19.4 million parameters at 91 classes."""
    defaults: Any = {"short_side": 320, "long_side": 640, "candidates": 150, "proposals": 150}
    return _on_mobilenet(**{**defaults, **options})
