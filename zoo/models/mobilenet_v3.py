"""MobileNetV3.

Howard et al. 2019, arXiv 1905.02244, tables 1 and 2.
"""

from typing import ClassVar, NamedTuple, Self, Unpack

import flax.linen as nn
import jax

from zoo.models.base import Model, ModelOptions, register
from zoo.models.blocks import Stage
from zoo.models.inverted_residual import (
    InvertedResidual,
    InvertedResidualConfig,
    round_channels,
)
from zoo.models.layers import ConvNorm, Dense
from zoo.models.strides import stage_strides


class BlockConfig(NamedTuple):
    """A block: the columns of the paper's tables."""

    kernel_size: int
    expanded: int
    channels: int
    squeeze: bool
    act: str
    stride: int

    def reduce(self, expansion: bool) -> Self:
        """The block with half of its channels, and of those inside where `expansion` says so."""
        expanded = self.expanded // 2 if expansion else self.expanded
        return self._replace(channels=self.channels // 2, expanded=expanded)


RE, HS, SE = "relu", "hard_swish", True
STEM = 16
# By stages, each of which begins with a stride but for LARGE's first.
LARGE = (
    (BlockConfig(3, 16, 16, False, RE, 1),),
    (
        BlockConfig(3, 64, 24, False, RE, 2),
        BlockConfig(3, 72, 24, False, RE, 1),
    ),
    (
        BlockConfig(5, 72, 40, SE, RE, 2),
        BlockConfig(5, 120, 40, SE, RE, 1),
        BlockConfig(5, 120, 40, SE, RE, 1),
    ),
    (
        BlockConfig(3, 240, 80, False, HS, 2),
        BlockConfig(3, 200, 80, False, HS, 1),
        BlockConfig(3, 184, 80, False, HS, 1),
        BlockConfig(3, 184, 80, False, HS, 1),
        BlockConfig(3, 480, 112, SE, HS, 1),
        BlockConfig(3, 672, 112, SE, HS, 1),
    ),
    (
        BlockConfig(5, 672, 160, SE, HS, 2),
        BlockConfig(5, 960, 160, SE, HS, 1),
        BlockConfig(5, 960, 160, SE, HS, 1),
    ),
)
SMALL = (
    (BlockConfig(3, 16, 16, SE, RE, 2),),
    (
        BlockConfig(3, 72, 24, False, RE, 2),
        BlockConfig(3, 88, 24, False, RE, 1),
    ),
    (
        BlockConfig(5, 96, 40, SE, HS, 2),
        BlockConfig(5, 240, 40, SE, HS, 1),
        BlockConfig(5, 240, 40, SE, HS, 1),
        BlockConfig(5, 120, 48, SE, HS, 1),
        BlockConfig(5, 144, 48, SE, HS, 1),
    ),
    (
        BlockConfig(5, 288, 96, SE, HS, 2),
        BlockConfig(5, 576, 96, SE, HS, 1),
        BlockConfig(5, 576, 96, SE, HS, 1),
    ),
)


class MobileNetV3(Model, kw_only=True):
    """MobileNetV3 of either size.

    Modules: stem, stage1/block1/{expand, depthwise, squeeze_excite/{reduce, expand}, project} …,
    conv_head, fc, head.

    Args:
      stages: LARGE or SMALL.
      hidden_features: what the layer before the classifier gives.
      width: multiplies all channels, which are then rounded to multiples of 8.
      dropout_rate: before the classifier.
      output_stride: 32, or 16 or 8 with dilation in place of the last strides.
      reduced_tail: halves the channels behind the last stride and of the layer before the
        classifier, as for detection (section 6.3).
    """

    architecture: ClassVar[tuple[str, ...]] = ("stages", "hidden_features")
    classifier: ClassVar[tuple[str, ...]] = ("fc", "head")
    backbone_excludes: ClassVar[tuple[str, ...]] = ("conv_head",)

    stages: tuple[tuple[BlockConfig, ...], ...] = LARGE
    hidden_features: int = 1280
    width: float = 1.0
    dropout_rate: float = 0.2
    output_stride: int = 32
    reduced_tail: bool = False
    norm_eps: float = 1e-3
    norm_momentum: float = 0.99

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [N, H, W, C] → logits [N, num_classes], float32 or better."""
        self.check_images(x, train)
        options = self.layer_options
        x = ConvNorm(self.scale(STEM), 3, 2, act=HS, options=options, name="stem")(x, train)
        strides = stage_strides(
            [(stage[0].stride, len(stage)) for stage in self.stages], self.output_stride
        )
        for number, (stage, blocks) in enumerate(zip(self.stages, strides, strict=True), start=1):
            configs = []
            is_last = number == len(self.stages)
            for position, (row, block) in enumerate(zip(stage, blocks, strict=True)):
                if self.reduced_tail and is_last:
                    row = row.reduce(expansion=position > 0)
                expanded = self.scale(row.expanded)
                config = InvertedResidualConfig(
                    act=row.act,
                    kernel_size=row.kernel_size,
                    stride=block.stride,
                    dilation=block.dilation,
                    expanded=expanded,
                    channels=self.scale(row.channels),
                    skip=row.stride == 1,
                    squeezed=round_channels(expanded // 4) if row.squeeze else 0,
                )
                configs.append(config)
            run = Stage(InvertedResidual, configs, options, self.remat, name=f"stage{number}")
            x = run(x, train)
        x = ConvNorm(6 * x.shape[-1], act=HS, options=options, name="conv_head")(x, train)
        features = self.hidden_features // (2 if self.reduced_tail else 1)
        hidden = Dense(self.scale(features), act=HS, options=options, name="fc")
        return self.logits(hidden(x.mean(axis=(1, 2))), train, self.dropout_rate)

    @nn.nowrap
    def scale(self, channels: int) -> int:
        """The channels at this model's width."""
        return round_channels(channels * self.width)


class MobileNetV3Options(ModelOptions, total=False):
    """Arguments of the constructors; see `MobileNetV3`."""

    width: float
    dropout_rate: float
    output_stride: int
    reduced_tail: bool


@register()
def MobileNetV3_Large(**options: Unpack[MobileNetV3Options]) -> MobileNetV3:
    """MobileNetV3-Large: 5.5 million parameters at 1,000 classes."""
    return MobileNetV3(stages=LARGE, hidden_features=1280, **options)


@register()
def MobileNetV3_Small(**options: Unpack[MobileNetV3Options]) -> MobileNetV3:
    """MobileNetV3-Small: 2.5 million parameters at 1,000 classes."""
    return MobileNetV3(stages=SMALL, hidden_features=1024, **options)
