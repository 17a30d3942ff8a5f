"""MobileNetV3.

Howard et al. 2019, arXiv 1905.02244, tables 1 and 2.
"""

import functools
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax

from zoo.models.base import Model, register, steps
from zoo.models.inverted_residual import InvertedResidual, round_channels
from zoo.models.layers import ConvNorm, Dense, Stage


class Row(NamedTuple):
    """A block: the columns of the paper's tables."""

    kernel: int
    expanded: int
    channels: int
    squeeze: bool
    act: str
    stride: int


RE, HS, SE = "relu", "hard_swish", True
STEM = 16
# By stages, each of which begins with a stride but for LARGE's first.
LARGE = (
    (Row(3, 16, 16, False, RE, 1),),
    (Row(3, 64, 24, False, RE, 2), Row(3, 72, 24, False, RE, 1)),
    (Row(5, 72, 40, SE, RE, 2), Row(5, 120, 40, SE, RE, 1), Row(5, 120, 40, SE, RE, 1)),
    (
        Row(3, 240, 80, False, HS, 2),
        Row(3, 200, 80, False, HS, 1),
        Row(3, 184, 80, False, HS, 1),
        Row(3, 184, 80, False, HS, 1),
        Row(3, 480, 112, SE, HS, 1),
        Row(3, 672, 112, SE, HS, 1),
    ),
    (Row(5, 672, 160, SE, HS, 2), Row(5, 960, 160, SE, HS, 1), Row(5, 960, 160, SE, HS, 1)),
)
SMALL = (
    (Row(3, 16, 16, SE, RE, 2),),
    (Row(3, 72, 24, False, RE, 2), Row(3, 88, 24, False, RE, 1)),
    (
        Row(5, 96, 40, SE, HS, 2),
        Row(5, 240, 40, SE, HS, 1),
        Row(5, 240, 40, SE, HS, 1),
        Row(5, 120, 48, SE, HS, 1),
        Row(5, 144, 48, SE, HS, 1),
    ),
    (Row(5, 288, 96, SE, HS, 2), Row(5, 576, 96, SE, HS, 1), Row(5, 576, 96, SE, HS, 1)),
)


class MobileNetV3(Model):
    """MobileNetV3 of either size.

    Modules: stem, stage1/block1/{expand, depthwise, squeeze_excite/{reduce, expand}, project} …,
    conv_head, fc, head.

    Args:
      stages: LARGE or SMALL.
      hidden: the features before the classifier.
      width: multiplies all channels, which are then rounded to multiples of 8.
      dropout_rate: before the classifier.
      output_stride: 32, or 16 or 8 with dilation in place of the last strides.
    """

    classifier: ClassVar[tuple[str, ...]] = ("fc", "head")
    backbone_excludes: ClassVar[tuple[str, ...]] = ("conv_head",)

    stages: tuple[tuple[Row, ...], ...] = LARGE
    hidden: int = 1280
    width: float = 1.0
    dropout_rate: float = 0.2
    output_stride: int = 32
    norm_eps: float = 1e-3
    norm_momentum: float = 0.99

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [N, H, W, C] → logits [N, num_classes], float32 or better."""
        self.check(x, train)
        conv = self.layers(ConvNorm, act=HS)
        x = conv(self.scaled(STEM), 3, 2, name="stem")(x, train)
        spent = steps([rows[0].stride for rows in self.stages], self.output_stride)
        for number, (rows, step) in enumerate(zip(self.stages, spent, strict=True), start=1):
            blocks = []
            for row, (stride, dilation, _) in zip(rows, step.of(len(rows)), strict=True):
                expanded = self.scaled(row.expanded)
                blocks.append(
                    functools.partial(
                        InvertedResidual,
                        self.layers,
                        act=row.act,
                        kernel=row.kernel,
                        stride=stride,
                        dilation=dilation,
                        expanded=expanded,
                        channels=self.scaled(row.channels),
                        skip=row.stride == 1,
                        squeezed=round_channels(expanded // 4) if row.squeeze else 0,
                    )
                )
            x = Stage(blocks, self.remat, name=f"stage{number}")(x, train)
        x = conv(6 * x.shape[-1], name="conv_head")(x, train).mean(axis=(1, 2))
        x = self.layers(Dense)(self.scaled(self.hidden), act=HS, name="fc")(x)
        return self.logits(x, train, self.dropout_rate)

    @nn.nowrap
    def scaled(self, channels: int) -> int:
        """The channels at this model's width."""
        return round_channels(channels * self.width)


@register()
def MobileNetV3_Large(**options: Any) -> MobileNetV3:
    """MobileNetV3-Large: 5.5 million parameters at 1,000 classes."""
    return MobileNetV3(stages=LARGE, hidden=1280, **options)


@register()
def MobileNetV3_Small(**options: Any) -> MobileNetV3:
    """MobileNetV3-Small: 2.5 million parameters at 1,000 classes."""
    return MobileNetV3(stages=SMALL, hidden=1024, **options)
