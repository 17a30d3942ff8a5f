"""MobileNetV2.

Sandler et al. 2018, arXiv 1801.04381, table 2.
"""

import functools
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax

from zoo.models.base import Model, register, steps
from zoo.models.inverted_residual import InvertedResidual, round_channels
from zoo.models.layers import ConvNorm, Stage


class Row(NamedTuple):
    """A stage: t, c, n and s of the paper's table."""

    expansion: int
    channels: int
    blocks: int
    stride: int


STEM, HEAD = 32, 1280
STAGES = (
    Row(expansion=1, channels=16, blocks=1, stride=1),
    Row(expansion=6, channels=24, blocks=2, stride=2),
    Row(expansion=6, channels=32, blocks=3, stride=2),
    Row(expansion=6, channels=64, blocks=4, stride=2),
    Row(expansion=6, channels=96, blocks=3, stride=1),
    Row(expansion=6, channels=160, blocks=3, stride=2),
    Row(expansion=6, channels=320, blocks=1, stride=1),
)


@register()
class MobileNetV2(Model):
    """MobileNetV2: 3.5 million parameters at 1,000 classes and width 1.

    Modules: stem, stage1/block1/{expand, depthwise, project} … stage7, conv_head, head.

    Args:
      stages: the table.
      width: multiplies all channels, which are then rounded to multiples of 8; the last
        convolution does not shrink.
      dropout_rate: before the classifier.
      output_stride: 32, or 16 or 8 with dilation in place of the last strides.
    """

    backbone_excludes: ClassVar[tuple[str, ...]] = ("conv_head",)

    stages: tuple[Row, ...] = STAGES
    width: float = 1.0
    dropout_rate: float = 0.2
    output_stride: int = 32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [N, H, W, C] → logits [N, num_classes], float32 or better."""
        self.check(x, train)
        conv = self.layers(ConvNorm, act="relu6")
        inside = round_channels(STEM * self.width)
        x = conv(inside, 3, 2, name="stem")(x, train)
        spent = steps([row.stride for row in self.stages], self.output_stride)
        for number, (row, step) in enumerate(zip(self.stages, spent, strict=True), start=1):
            channels, blocks = round_channels(row.channels * self.width), []
            for i, (stride, dilation, _) in enumerate(step.of(row.blocks)):
                blocks.append(
                    functools.partial(
                        InvertedResidual,
                        self.layers,
                        act="relu6",
                        kernel=3,
                        stride=stride,
                        dilation=dilation,
                        expanded=row.expansion * inside,
                        channels=channels,
                        skip=i > 0 or row.stride == 1,
                    )
                )
                inside = channels
            x = Stage(blocks, self.remat, name=f"stage{number}")(x, train)
        x = conv(round_channels(HEAD * max(1.0, self.width)), name="conv_head")(x, train)
        return self.logits(x, train, self.dropout_rate)
