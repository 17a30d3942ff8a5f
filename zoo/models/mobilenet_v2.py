"""MobileNetV2.

Sandler et al. 2018, arXiv 1801.04381, table 2.
"""

from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax

from zoo.models.base import Model, register
from zoo.models.blocks import Stage
from zoo.models.inverted_residual import (
    InvertedResidual,
    InvertedResidualConfig,
    round_channels,
)
from zoo.models.layers import ConvNorm
from zoo.models.strides import stage_strides


class StageConfig(NamedTuple):
    """A stage: t, c, n and s of the paper's table."""

    expansion: int
    channels: int
    blocks: int
    stride: int


STEM, HEAD = 32, 1280
STAGES = (
    StageConfig(expansion=1, channels=16, blocks=1, stride=1),
    StageConfig(expansion=6, channels=24, blocks=2, stride=2),
    StageConfig(expansion=6, channels=32, blocks=3, stride=2),
    StageConfig(expansion=6, channels=64, blocks=4, stride=2),
    StageConfig(expansion=6, channels=96, blocks=3, stride=1),
    StageConfig(expansion=6, channels=160, blocks=3, stride=2),
    StageConfig(expansion=6, channels=320, blocks=1, stride=1),
)


@register()
class MobileNetV2(Model, kw_only=True):
    """MobileNetV2: 3.5 million parameters at 1,000 classes and width 1.

    Modules: stem, stage1/block1/{expand, depthwise, project} … stage7, conv_head, head.

    Args:
      stages: the table.
      width: multiplies all channels, which are then rounded to multiples of 8; the last
        convolution does not shrink.
      dropout_rate: before the classifier.
      output_stride: 32, or 16 or 8 with dilation in place of the last strides.
    """

    architecture: ClassVar[tuple[str, ...]] = ("stages",)
    backbone_excludes: ClassVar[tuple[str, ...]] = ("conv_head",)

    stages: tuple[StageConfig, ...] = STAGES
    width: float = 1.0
    dropout_rate: float = 0.2
    output_stride: int = 32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [N, H, W, C] → logits [N, num_classes], float32 or better."""
        self.check_images(x, train)
        options, act = self.layer_options, "relu6"
        channels = round_channels(STEM * self.width)
        x = ConvNorm(channels, 3, 2, act=act, options=options, name="stem")(x, train)
        strides = stage_strides(
            [(stage.stride, stage.blocks) for stage in self.stages], self.output_stride
        )
        for number, (stage, blocks) in enumerate(zip(self.stages, strides, strict=True), start=1):
            configs = []
            for index, block in enumerate(blocks):
                expanded = stage.expansion * channels
                channels = round_channels(stage.channels * self.width)
                config = InvertedResidualConfig(
                    act=act,
                    kernel_size=3,
                    stride=block.stride,
                    dilation=block.dilation,
                    expanded=expanded,
                    channels=channels,
                    skip=index > 0 or stage.stride == 1,
                )
                configs.append(config)
            run = Stage(InvertedResidual, configs, options, self.remat, name=f"stage{number}")
            x = run(x, train)
        head = round_channels(HEAD * max(1.0, self.width))
        x = ConvNorm(head, act=act, options=options, name="conv_head")(x, train)
        return self.logits(x, train, self.dropout_rate)
