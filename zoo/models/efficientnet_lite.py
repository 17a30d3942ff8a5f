"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation and with ReLU6.

Tan and Le 2019, arXiv 1905.11946, table 1, and the reference implementation of the Lite variants,
tensorflow/tpu, models/official/efficientnet/lite.
"""

import math
from typing import ClassVar, NamedTuple, Unpack

import flax.linen as nn
import jax

from zoo.models.base import Model, ModelOptions, register
from zoo.models.blocks import Stage
from zoo.models.inverted_residual import (
    InvertedResidual,
    InvertedResidualConfig,
    round_channels,
)
from zoo.models.layers import ConvNorm


class StageConfig(NamedTuple):
    """A stage: blocks that expand the channels, filter them and project them to `channels`."""

    kernel_size: int
    stride: int
    expansion: int
    channels: int
    blocks: int


STAGES = (
    StageConfig(kernel_size=3, stride=1, expansion=1, channels=16, blocks=1),
    StageConfig(kernel_size=3, stride=2, expansion=6, channels=24, blocks=2),
    StageConfig(kernel_size=5, stride=2, expansion=6, channels=40, blocks=2),
    StageConfig(kernel_size=3, stride=2, expansion=6, channels=80, blocks=3),
    StageConfig(kernel_size=5, stride=1, expansion=6, channels=112, blocks=3),
    StageConfig(kernel_size=5, stride=2, expansion=6, channels=192, blocks=4),
    StageConfig(kernel_size=3, stride=1, expansion=6, channels=320, blocks=1),
)
STEM, HEAD = 32, 1280  # the same in every size


class EfficientNetLite(Model, kw_only=True):
    """EfficientNet-Lite of any size.

    Modules: stem, stage1/block1/{expand, depthwise, project} … stage7, conv_head, head.

    Args:
      stages: the table.
      width, depth: multiply the stages' channels and blocks. Stem and head stay as they are, and
        so do the blocks of the first stage and the last.
      dropout_rate: dropout before the classifier.
      drop_path_rate: stochastic depth, growing linearly from 0 at the first block.
    """

    architecture: ClassVar[tuple[str, ...]] = ("stages", "width", "depth")
    backbone_excludes: ClassVar[tuple[str, ...]] = ("conv_head",)

    stages: tuple[StageConfig, ...] = STAGES
    width: float = 1.0
    depth: float = 1.0
    dropout_rate: float = 0.2
    drop_path_rate: float = 0.2
    norm_eps: float = 1e-3
    norm_momentum: float = 0.99
    padding: str = "SAME"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [N, H, W, C] → logits [N, num_classes], float32 or better."""
        self.check_images(x, train)
        options, act = self.layer_options, "relu6"
        x = ConvNorm(STEM, 3, 2, act=act, options=options, name="stem")(x, train)
        stages = [self.scale(stage) for stage in self.stages]
        total, channels, before = sum(stage.blocks for stage in stages), STEM, 0
        for number, stage in enumerate(stages, start=1):
            configs = []
            for index in range(stage.blocks):
                config = InvertedResidualConfig(
                    act=act,
                    kernel_size=stage.kernel_size,
                    stride=stage.stride if index == 0 else 1,
                    dilation=1,
                    expanded=stage.expansion * channels,
                    channels=stage.channels,
                    skip=index > 0 or stage.stride == 1,
                    drop_path_rate=self.drop_path_rate * (before + index) / total,
                )
                configs.append(config)
                channels = stage.channels
            before += stage.blocks
            run = Stage(InvertedResidual, configs, options, self.remat, name=f"stage{number}")
            x = run(x, train)
        x = ConvNorm(HEAD, act=act, options=options, name="conv_head")(x, train)
        return self.logits(x, train, self.dropout_rate)

    @nn.nowrap
    def scale(self, stage: StageConfig) -> StageConfig:
        """The stage at this model's width and depth."""
        fixed = stage in (self.stages[0], self.stages[-1])
        return stage._replace(
            channels=round_channels(stage.channels * self.width),
            blocks=stage.blocks if fixed else math.ceil(stage.blocks * self.depth),
        )


class EfficientNetLiteOptions(ModelOptions, total=False):
    """Arguments of the constructors, beside `dropout_rate`; see `EfficientNetLite`."""

    drop_path_rate: float


@register(input_size=224)
def EfficientNetLite0(
    *, dropout_rate: float = 0.2, **options: Unpack[EfficientNetLiteOptions]
) -> EfficientNetLite:
    """EfficientNet-Lite0: 4.7 million parameters at 1,000 classes."""
    return EfficientNetLite(width=1.0, depth=1.0, dropout_rate=dropout_rate, **options)


@register(input_size=240)
def EfficientNetLite1(
    *, dropout_rate: float = 0.2, **options: Unpack[EfficientNetLiteOptions]
) -> EfficientNetLite:
    """EfficientNet-Lite1: 5.4 million parameters at 1,000 classes."""
    return EfficientNetLite(width=1.0, depth=1.1, dropout_rate=dropout_rate, **options)


@register(input_size=260)
def EfficientNetLite2(
    *, dropout_rate: float = 0.3, **options: Unpack[EfficientNetLiteOptions]
) -> EfficientNetLite:
    """EfficientNet-Lite2: 6.1 million parameters at 1,000 classes."""
    return EfficientNetLite(width=1.1, depth=1.2, dropout_rate=dropout_rate, **options)


@register(input_size=280)
def EfficientNetLite3(
    *, dropout_rate: float = 0.3, **options: Unpack[EfficientNetLiteOptions]
) -> EfficientNetLite:
    """EfficientNet-Lite3: 8.2 million parameters at 1,000 classes."""
    return EfficientNetLite(width=1.2, depth=1.4, dropout_rate=dropout_rate, **options)


@register(input_size=300)
def EfficientNetLite4(
    *, dropout_rate: float = 0.3, **options: Unpack[EfficientNetLiteOptions]
) -> EfficientNetLite:
    """EfficientNet-Lite4: 13.0 million parameters at 1,000 classes."""
    return EfficientNetLite(width=1.4, depth=1.8, dropout_rate=dropout_rate, **options)
