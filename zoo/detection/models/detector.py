"""What every detector is."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import flax.linen as nn
import jax
import jax.numpy as jnp

from zoo.detection.models.anchors import GridSize
from zoo.detection.models.matching import Truth
from zoo.models.base import DETECTORS, Model, ModelOptions, create, register
from zoo.models.options import EXPECTED
from zoo.surgery.features import Backbone, find_stages

# COCO's categories with those that were never used, and the background, number 0.
COCO_CLASSES = 91
register_detector = functools.partial(register, table=DETECTORS)


class DetectorOptions(ModelOptions, total=False):
    """Arguments that every detector's constructor takes; see `Detector`. Families add theirs."""

    backbone: str
    score_threshold: float
    nms_threshold: float
    max_detections: int
    image_size: int | None
    short_side: int
    long_side: int


class Predictions(NamedTuple):
    """What a detector finds in a batch, in arrays of fixed shapes.

    Args:
      boxes: [N, D, 4], in pixels of the images as the model sees them, the likeliest first.
      scores: [N, D]; 0 behind the last one.
      labels: [N, D], the numbers of the classes; 0, the background, behind the last one.
      counts: how many there are, [N].
      finite: whether what the model computed is finite, [N].
    """

    boxes: jax.Array
    scores: jax.Array
    labels: jax.Array
    counts: jax.Array
    finite: jax.Array


class Detector(Model, kw_only=True):
    """An object detector: a frozen definition that holds no arrays.

    Called on images, it gives what its heads compute; `predict` makes boxes of that, and `losses`
    compares it with the truth. Class 0 is the background.

    Attributes:
      mean, std: by which images of the range 0 to 1 are normalised.
      divisor: heights and widths of images are padded to multiples of it.

    Args:
      backbone: the name of the classifier whose feature maps it reads, such as "ResNet50".
      score_threshold: what is less likely is left out.
      nms_threshold: of boxes of one class with a larger IoU only the likeliest is kept.
      max_detections: in an image.
      image_size: height and width to which images are stretched; None keeps their shape.
      short_side: what the shorter side of an image becomes, in pixels, where its shape is kept,
      long_side: unless the longer side would become longer than this.
    """

    is_detector: ClassVar[bool] = True
    classifier: ClassVar[tuple[str, ...]] = ("class_head",)
    input_conv: ClassVar[str] = "backbone/stem/conv"
    mean: ClassVar[tuple[float, ...]] = (0.485, 0.456, 0.406)
    std: ClassVar[tuple[float, ...]] = (0.229, 0.224, 0.225)
    divisor: ClassVar[int] = 32

    num_classes: int = COCO_CLASSES
    backbone: str = "ResNet50"
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    max_detections: int = 100
    image_size: int | None = None
    short_side: int = 800
    long_side: int = 1333

    @property
    def min_size(self) -> int:
        """The smallest height and width of images as the model sees them."""
        return self.image_size or self.divisor

    @property
    def backbone_arguments(self) -> dict[str, Any]:
        """Further arguments of the backbone's constructor."""
        return {}

    @property
    def usual_size(self) -> int:
        """The height and width in pixels that it was designed for."""
        return DETECTORS[self.title].input_size if self.title in DETECTORS else 224

    @nn.nowrap
    def make_backbone(self, strides: Sequence[int], taps: Sequence[str] | None = None) -> Backbone:
        """The backbone, as a module of this one.

        Args:
          strides: of the maps to read.
          taps: the paths of the outputs to read, in place of the last ones of each stride.
        """
        classifier = create(
            self.backbone,
            num_classes=1,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            norm_eps=self.norm_eps,
            norm_momentum=self.norm_momentum,
            remat=self.remat,
            recompute=self.recompute,
            **self.backbone_arguments,
        ).clone(fused=self.fused)
        if taps is not None:
            return Backbone(classifier, tuple(enumerate(taps)), name="backbone")
        classifier = classifier.clone(**classifier.backbone_options)
        # Its own thread knows no float64, which would be a warning, and paths are the same.
        plain = classifier.clone(dtype=jnp.float32, param_dtype=jnp.float32)
        found = find_stages(plain)
        missing = sorted(set(strides) - {stride for stride, _ in found})
        if missing:
            raise ValueError(
                f"{self.title}: backbone must have maps of strides {list(strides)}, and "
                f"{self.backbone} has none of {missing}"
            )
        paths = tuple((stride, path) for stride, path in found if stride in strides)
        return Backbone(classifier, paths, name="backbone")

    @nn.nowrap
    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """The height and width at which it sees an image of that height and width."""
        if self.image_size is not None:
            return self.image_size, self.image_size
        scale = min(self.short_side / min(height, width), self.long_side / max(height, width))
        return max(1, math.floor(height * scale)), max(1, math.floor(width * scale))

    @property
    def canvas_side(self) -> int:
        """The height and width that hold every image, for training."""
        side = self.image_size or self.long_side
        return -(-side // self.divisor) * self.divisor

    @nn.nowrap
    def at_size(self, size: int | None) -> Self:
        """The same for images of another size, whose longer sides are all as long.

        Args:
          size: of the longer side in pixels, or of both where images are stretched; None keeps it.

        Raises:
          ValueError: it is for one size only.
        """
        if self.image_size is None:
            side = self.long_side if size is None else size
            return self.clone(short_side=side, long_side=side)
        if size in (None, self.image_size):
            return self
        if "image_size" in self.architecture:
            raise ValueError(f"size must be {self.image_size} for {self.title}, got {size}")
        return self.clone(image_size=size)

    @nn.nowrap
    def apply_arguments(self, sizes: jax.Array, truth: Truth | None = None) -> dict[str, Any]:
        """What else it is called with.

        Args:
          sizes: the heights and widths of the images without padding, [N, 2].
          truth: the objects, in training.
        """
        return {}

    @nn.nowrap
    def predict(self, outputs: Any, sizes: jax.Array) -> Predictions:
        """The objects in a batch.

        Args:
          outputs: what the detector gave for the batch.
          sizes: the heights and widths of the images, [N, 2], without what pads them.
        """
        raise NotImplementedError

    @nn.nowrap
    def losses(self, outputs: Any, truth: Truth) -> dict[str, jax.Array]:
        """The parts of the loss of a batch, whose sum is to be made small.

        Args:
          outputs: what the detector gave for the batch, in training with its truth.
          truth: the objects.
        """
        raise NotImplementedError


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["logits", "deltas", "centerness"],
    meta_fields=["image_size"],
)
@dataclasses.dataclass(frozen=True)
class HeadOutputs:
    """What the heads of a detector of one stage compute, for each map of the pyramid.

    Args:
      logits: [N, H, W, anchors, num_classes].
      deltas: [N, H, W, anchors, 4], by which anchors become boxes.
      centerness: [N, H, W, anchors, 1] logits, or nothing.
      image_size: the height and width of the images.
    """

    logits: tuple[jax.Array, ...]
    deltas: tuple[jax.Array, ...]
    centerness: tuple[jax.Array, ...]
    image_size: GridSize

    @property
    def grid_sizes(self) -> tuple[GridSize, ...]:
        """The height and width of each map."""
        return tuple((x.shape[1], x.shape[2]) for x in self.logits)


def flatten_maps(maps: Sequence[jax.Array]) -> jax.Array:
    """Arrays [N, H, W, anchors, K] of all maps → [N, all anchors, K]."""
    flat = [x.reshape(x.shape[0], -1, x.shape[-1]) for x in maps]
    return jnp.concatenate(flat, axis=1)


def _is_threshold(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


_THRESHOLD = _is_threshold, "a number from 0 to 1"
EXPECTED.update(
    score_threshold=_THRESHOLD,
    nms_threshold=_THRESHOLD,
    max_detections=EXPECTED["num_classes"],
    short_side=EXPECTED["num_classes"],
    long_side=EXPECTED["num_classes"],
    image_size=(
        lambda value: value is None or EXPECTED["num_classes"][0](value),
        f"{EXPECTED['num_classes'][1]}, or None",
    ),
)
