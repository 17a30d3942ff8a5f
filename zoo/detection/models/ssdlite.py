"""SSDLite, SSD with separable convolutions.

Sandler et al. 2018, arXiv 1801.04381, section 6.2, and Howard et al. 2019, arXiv 1905.02244,
section 6.3.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

import flax.linen as nn
import jax

from zoo.detection.models.detector import register_detector
from zoo.detection.models.ssd import SSD, Head, SSDOptions
from zoo.models.base import find_model
from zoo.models.layers import ConvNorm, LayerOptions

RATIOS = ((2.0, 3.0),) * 6
SCALES = (*(0.2 + 0.75 * number / 5 for number in range(6)), 1.0)
EXTRA = (512, 256, 256, 128)


class SSDLite(SSD, kw_only=True):
    """SSDLite, SSD with separable convolutions, on a backbone that has maps of strides 16 and 32.

    Modules: backbone, extra1/{reduce, depthwise, expand} …, class_head/{map1_depthwise,
    map1_pointwise} …, box_head/…

    Args:
      reduced_tail: halves the channels of MobileNetV3's last stage.
    """

    architecture: ClassVar[tuple[str, ...]] = ()
    input_conv: ClassVar[str] = "backbone/stem/conv"
    mean: ClassVar[tuple[float, ...]] = (0.5, 0.5, 0.5)
    std: ClassVar[tuple[float, ...]] = (0.5, 0.5, 0.5)
    ratios: ClassVar[Any] = RATIOS
    scales: ClassVar[Any] = SCALES
    steps: ClassVar[Any] = None

    backbone: str = "MobileNetV3_Large"
    reduced_tail: bool = True
    image_size: int | None = 320
    score_threshold: float = 0.001
    nms_threshold: float = 0.55
    max_detections: int = 300
    candidates: int = 300
    norm_eps: float = 1e-3
    norm_momentum: float = 0.97

    @nn.nowrap
    def make_maps(self, x: jax.Array, train: bool) -> list[jax.Array]:
        """The feature maps, fine to coarse."""
        is_v3 = find_model(self.backbone).family == "mobilenet_v3"
        # As the paper: the last stride's expansion, and what the classifier would see.
        stage = 5 if self.backbone == "MobileNetV3_Large" else 4
        taps = (f"stage{stage}/block1/expand", "conv_head") if is_v3 else None
        maps = list(self.make_backbone((16, 32), taps)(x, train).values())
        for number, channels in enumerate(EXTRA, start=1):
            block = LiteExtraBlock(channels, self.layer_options, name=f"extra{number}")
            maps.append(block(maps[-1], train))
        return maps

    @nn.nowrap
    def make_head(self, anchors: Sequence[int], outputs: int, name: str) -> nn.Module:
        """What gives some numbers for each anchor."""
        return Head(tuple(anchors), outputs, self.layer_options, lite=True, name=name)

    @property
    def backbone_arguments(self) -> dict[str, Any]:
        """The smaller last stage, of MobileNetV3."""
        is_v3 = find_model(self.backbone).family == "mobilenet_v3"
        return {"reduced_tail": True} if is_v3 and self.reduced_tail else {}


class LiteExtraBlock(nn.Module):
    """A 1x1, a depthwise 3x3 and a 1x1 convolution, which halve a map."""

    channels: int
    options: LayerOptions

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H / 2, W / 2, channels]."""
        inner, options = self.channels // 2, self.options
        x = ConvNorm(inner, act="relu6", options=options, name="reduce")(x, train)
        depthwise = ConvNorm(
            inner, 3, 2, groups=inner, act="relu6", options=options, name="depthwise"
        )
        expand = ConvNorm(self.channels, act="relu6", options=options, name="expand")
        return expand(depthwise(x, train), train)


class SSDLiteOptions(SSDOptions, total=False):
    """Arguments of the constructor; see `SSDLite`."""

    reduced_tail: bool


@register_detector(320)
def SSDLite320_MobileNetV3_Large(**options: Unpack[SSDLiteOptions]) -> SSDLite:
    """SSDLite of 320x320 pixels on MobileNetV3-Large: 3.4 million parameters at 91 classes."""
    return SSDLite(**options)
