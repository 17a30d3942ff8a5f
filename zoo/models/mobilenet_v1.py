"""MobileNetV1.

Howard et al. 2017, arXiv 1704.04861, table 1; ReLU6 as in the authors' implementation.
"""

from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax

from zoo.models.base import Model, register
from zoo.models.blocks import Stage, chain
from zoo.models.inverted_residual import round_channels
from zoo.models.layers import ConvNorm, LayerOptions
from zoo.models.strides import stage_strides


class StageConfig(NamedTuple):
    """A stage: depthwise separable convolutions, the first of them with the stride."""

    stride: int
    channels: int
    blocks: int


STEM = 32
STAGES = (
    StageConfig(stride=1, channels=64, blocks=1),
    StageConfig(stride=2, channels=128, blocks=2),
    StageConfig(stride=2, channels=256, blocks=2),
    StageConfig(stride=2, channels=512, blocks=6),
    StageConfig(stride=2, channels=1024, blocks=2),
)


class BlockConfig(NamedTuple):
    """A block: its channels, and the stride and dilation of its depthwise convolution."""

    channels: int
    stride: int
    dilation: int


class Separable(nn.Module):
    """A depthwise and a pointwise convolution, each normalised (figure 3, right)."""

    config: BlockConfig
    options: LayerOptions

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H / stride, W / stride, channels]."""
        c, (channels, stride, dilation) = x.shape[-1], self.config
        depthwise = ConvNorm(
            c,
            3,
            stride,
            dilation=dilation,
            groups=c,
            act="relu6",
            options=self.options,
            name="depthwise",
        )
        pointwise = ConvNorm(channels, act="relu6", options=self.options, name="pointwise")
        return chain([depthwise, pointwise], x, train)


@register()
class MobileNetV1(Model, kw_only=True):
    """MobileNetV1: 4.2 million parameters at 1,000 classes and width 1.

    Modules: stem, stage1/block1/{depthwise, pointwise} … stage5, head.

    Args:
      stages: the table.
      width: multiplies all channels, which are then rounded to multiples of 8.
      dropout_rate: before the classifier.
      output_stride: 32, or 16 or 8 with dilation in place of the last strides.
    """

    architecture: ClassVar[tuple[str, ...]] = ("stages",)

    stages: tuple[StageConfig, ...] = STAGES
    width: float = 1.0
    dropout_rate: float = 0.001
    output_stride: int = 32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [N, H, W, C] → logits [N, num_classes], float32 or better."""
        self.check_images(x, train)
        options = self.layer_options
        stem = round_channels(STEM * self.width)
        x = ConvNorm(stem, 3, 2, act="relu6", options=options, name="stem")(x, train)
        strides = stage_strides(
            [(stage.stride, stage.blocks) for stage in self.stages], self.output_stride
        )
        for number, (stage, blocks) in enumerate(zip(self.stages, strides, strict=True), start=1):
            channels = round_channels(stage.channels * self.width)
            configs = [BlockConfig(channels, block.stride, block.dilation) for block in blocks]
            x = Stage(Separable, configs, options, self.remat, name=f"stage{number}")(x, train)
        return self.logits(x, train, self.dropout_rate)
