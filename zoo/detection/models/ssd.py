"""SSD.

Liu et al. 2016, arXiv 1512.02325.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

import flax.linen as nn
import jax
import jax.numpy as jnp

from zoo.detection.boxes import clip_boxes, decode_boxes, encode_boxes
from zoo.detection.losses import smooth_l1
from zoo.detection.models.anchors import make_default_boxes
from zoo.detection.models.candidates import gather
from zoo.detection.models.detector import (
    Detector,
    DetectorOptions,
    HeadOutputs,
    Predictions,
    flatten_maps,
    register_detector,
)
from zoo.detection.models.matching import Truth, match_default_boxes, pick, with_room
from zoo.detection.models.pyramid import split_anchors
from zoo.detection.nms import multiclass_nms
from zoo.models.base import find_model
from zoo.models.initializers import Constant, Normal
from zoo.models.layers import Conv, ConvNorm, LayerOptions, MaxPool, get_parameter
from zoo.models.vgg import VGG

CODE_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
IOU_THRESHOLD = 0.5  # from which on a default box is an object's
NEGATIVES = 3  # boxes of the background that count in the loss, for each box of an object
# Of SSD300: its table, map by map.
RATIOS = ((2.0,), (2.0, 3.0), (2.0, 3.0), (2.0, 3.0), (2.0,), (2.0,))
SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
STEPS = (8, 16, 32, 64, 100, 300)
EXTRA = ((256, 512, 2), (128, 256, 2), (128, 256, 1), (128, 256, 1))  # inner, outer, stride
LITE_STD = 0.03  # of SSDLite's first weights


class L2Norm(nn.Module):
    """Scales each pixel's channels to length 1, and then by a parameter (ParseNet, 1506.04579)."""

    options: LayerOptions

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] → [N, H, W, C]."""
        scale = get_parameter(self, "scale", Constant(20.0), x.shape[-1:], x)
        length = jnp.sqrt(jnp.square(x).sum(-1, keepdims=True))
        return x / jnp.maximum(length, 1e-12) * scale.astype(x.dtype)


class SSD(Detector, kw_only=True):
    """SSD, whose backbone is a VGG.

    Modules: backbone, l2_norm, fc6, fc7, extra1/{conv1, conv2} …, class_head/map1 …,
    box_head/map1 …

    Args:
      candidates: how many of each class's likeliest boxes are looked at.
    """

    architecture: ClassVar[tuple[str, ...]] = ("image_size",)
    input_conv: ClassVar[str] = "backbone/stage1/conv1/conv"
    # The images' range is 0 to 255, less the mean.
    mean: ClassVar[tuple[float, ...]] = (0.48235, 0.45882, 0.40784)
    std: ClassVar[tuple[float, ...]] = (1 / 255, 1 / 255, 1 / 255)
    divisor: ClassVar[int] = 1
    ratios: ClassVar[Any] = RATIOS
    scales: ClassVar[Any] = SCALES
    steps: ClassVar[Any] = STEPS

    backbone: str = "VGG16"
    image_size: int | None = 300
    score_threshold: float = 0.01
    nms_threshold: float = 0.45
    max_detections: int = 200
    candidates: int = 400

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> HeadOutputs:
        """Images [N, image_size, image_size, C] → what the heads compute."""
        self.check_images(x, train)
        maps = self.make_maps(x, train)
        anchors = [2 + 2 * len(ratios) for ratios in self.ratios]
        logits, deltas = (
            self.make_head(anchors, outputs, name)(maps, train)
            for name, outputs in (("class_head", self.num_classes), ("box_head", 4))
        )
        return HeadOutputs(logits, deltas, (), (x.shape[1], x.shape[2]))

    @nn.nowrap
    def make_maps(self, x: jax.Array, train: bool) -> list[jax.Array]:
        """The feature maps, fine to coarse."""
        depths = find_vgg(self.backbone).depths
        taps = [f"stage{number}/conv{depths[number - 1]}" for number in (4, 5)]
        fine, x = self.make_backbone((), taps)(x, train).values()
        options = self.layer_options
        x = MaxPool(3, 1, 1)(x)
        x = Conv(1024, 3, dilation=6, use_bias=True, act="relu", options=options, name="fc6")(x)
        x = Conv(1024, use_bias=True, act="relu", options=options, name="fc7")(x)
        maps = [L2Norm(options, name="l2_norm")(fine), x]
        for number, config in enumerate(EXTRA, start=1):
            x = ExtraBlock(config, options, name=f"extra{number}")(x)
            maps.append(x)
        return maps

    @nn.nowrap
    def make_head(self, anchors: Sequence[int], outputs: int, name: str) -> nn.Module:
        """What gives some numbers for each anchor."""
        return Head(tuple(anchors), outputs, self.layer_options, name=name)

    @property
    def backbone_arguments(self) -> dict[str, Any]:
        """Pools keep what overhangs, as the size does not divide."""
        return {"ceil_pool": True}

    @nn.nowrap
    def anchors(self, outputs: HeadOutputs) -> jax.Array:
        """The default boxes, [all anchors, 4]."""
        made = make_default_boxes(
            outputs.grid_sizes, outputs.image_size, self.ratios, self.scales, self.steps
        )
        return jnp.concatenate([jnp.asarray(level) for level in made])

    @nn.nowrap
    def predict(self, outputs: HeadOutputs, sizes: jax.Array) -> Predictions:
        """The objects in a batch; see `Detector.predict`."""
        anchors = self.anchors(outputs)

        def of_image(image: tuple[jax.Array, ...]) -> Predictions:
            logits, deltas, size = image
            boxes = decode_boxes(deltas, anchors, CODE_WEIGHTS)
            boxes = clip_boxes(boxes, size[0], size[1])
            scores = jax.nn.softmax(logits, -1)[:, 1:]
            places, labels, count = multiclass_nms(
                boxes,
                scores,
                self.nms_threshold,
                max_outputs=self.max_detections,
                score_threshold=self.score_threshold,
                max_per_class=self.candidates,
            )
            places = jnp.maximum(places, 0)
            likely = scores[places, jnp.maximum(labels, 0)]
            finite = jnp.isfinite(scores).all() & jnp.isfinite(deltas).all()
            return gather(boxes[places], likely, labels + 1, count, finite)

        logits, deltas = flatten_maps(outputs.logits), flatten_maps(outputs.deltas)
        return jax.lax.map(of_image, (logits, deltas, sizes.astype(jnp.float32)))

    @nn.nowrap
    def losses(self, outputs: HeadOutputs, truth: Truth) -> dict[str, jax.Array]:
        """{"classification", "box"}: sums, divided by the number of objects' default boxes.

        Cross-entropy, of the background only its hardest boxes, three for each object's; and smooth
        L1 of the boxes' code.
        """
        anchors = self.anchors(outputs)
        logits, deltas = flatten_maps(outputs.logits), flatten_maps(outputs.deltas)

        def of_image(
            logits: jax.Array, deltas: jax.Array, boxes: jax.Array, labels: jax.Array
        ) -> tuple[jax.Array, dict[str, jax.Array]]:
            matched = match_default_boxes(boxes, labels >= 0, anchors, IOU_THRESHOLD)
            found = matched >= 0
            classes = jnp.where(found, pick(labels, matched), 0)
            log = jax.nn.log_softmax(logits, -1)
            entropy = -jnp.take_along_axis(log, classes[:, None], 1)[:, 0]
            hard = _are_hardest(jnp.where(found, -jnp.inf, entropy), NEGATIVES * found.sum())
            objects = jnp.where(found[:, None], pick(boxes, matched), anchors)
            codes = encode_boxes(objects, anchors, CODE_WEIGHTS)
            box_loss = smooth_l1(deltas, codes, 1.0).sum(-1)
            return found.sum(), {
                "classification": jnp.where(found | hard, entropy, 0).sum(),
                "box": jnp.where(found, box_loss, 0).sum(),
            }

        counts, sums = jax.vmap(of_image)(logits, deltas, *with_room(truth))
        count = jnp.maximum(counts.sum(), 1)
        return {name: values.sum() / count for name, values in sums.items()}


def _are_hardest(losses: jax.Array, count: jax.Array) -> jax.Array:
    """Which `count` of the losses [A] are the largest."""
    order = jnp.argsort(-jax.lax.stop_gradient(losses), stable=True)
    ranks = jnp.zeros_like(order).at[order].set(jnp.arange(len(order)))
    return ranks < count


class ExtraBlock(nn.Module):
    """A 1x1 and a 3x3 convolution, which make a map smaller: by a stride, or by its border."""

    config: tuple[int, int, int]
    options: LayerOptions

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] → [N, H', W', outer]."""
        inner, outer, stride = self.config
        options = self.options
        x = Conv(inner, use_bias=True, act="relu", options=options, name="conv1")(x)
        padding = 1 if stride == 2 else 0
        conv2 = Conv(
            outer, 3, stride, padding, use_bias=True, act="relu", options=options, name="conv2"
        )
        return conv2(x)


class Head(nn.Module):
    """A convolution for each map, named map1, map2 and so on.

    Args:
      anchors: at each place of each map.
      outputs: for each anchor.
      options: of the layers.
      lite: a depthwise and a pointwise convolution in place of each.
    """

    anchors: tuple[int, ...]
    outputs: int
    options: LayerOptions
    lite: bool = False

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], train: bool = False) -> tuple[jax.Array, ...]:
        """Maps [N, H, W, C] → arrays [N, H, W, anchors, outputs], float32 or better."""
        return tuple(
            split_anchors(self._apply(x, count * self.outputs, f"map{number}", train), self.outputs)
            for number, (x, count) in enumerate(zip(maps, self.anchors, strict=True), start=1)
        )

    def _apply(self, x: jax.Array, features: int, name: str, train: bool) -> jax.Array:
        if not self.lite:
            return Conv(features, 3, use_bias=True, options=self.options, name=name)(x)
        channels = x.shape[-1]
        depthwise = ConvNorm(
            channels,
            3,
            groups=channels,
            act="relu6",
            options=self.options,
            name=f"{name}_depthwise",
        )
        pointwise = Conv(
            features,
            use_bias=True,
            kernel_init=Normal(LITE_STD),
            options=self.options,
            name=f"{name}_pointwise",
        )
        return pointwise(depthwise(x, train))


def find_vgg(name: str) -> VGG:
    """The VGG of that name; ValueError for another model."""
    model = find_model(name).constructor()
    if not isinstance(model, VGG):
        raise ValueError(f"backbone of SSD300 must be a VGG, got {name!r}; SSDLite takes others")
    return model


class SSDOptions(DetectorOptions, total=False):
    """Arguments of the constructors; see `SSD`."""

    candidates: int


@register_detector(300)
def SSD300_VGG16(**options: Unpack[SSDOptions]) -> SSD:
    """SSD of 300x300 pixels on VGG-16: 35.6 million parameters at 91 classes."""
    return SSD(**options)
