"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation and with ReLU6.

Tan and Le 2019, arXiv 1905.11946, table 1, and the reference implementation of the Lite variants,
tensorflow/tpu, models/official/efficientnet/lite.
"""

import functools
import math
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax

from zoo.models.base import Model, register
from zoo.models.inverted_residual import InvertedResidual, round_channels
from zoo.models.layers import ConvNorm, Stage


class Row(NamedTuple):
    """A stage: blocks that expand the channels, filter them and project them to `channels`."""

    kernel: int
    stride: int
    expansion: int
    channels: int
    blocks: int


STAGES = (
    Row(kernel=3, stride=1, expansion=1, channels=16, blocks=1),
    Row(kernel=3, stride=2, expansion=6, channels=24, blocks=2),
    Row(kernel=5, stride=2, expansion=6, channels=40, blocks=2),
    Row(kernel=3, stride=2, expansion=6, channels=80, blocks=3),
    Row(kernel=5, stride=1, expansion=6, channels=112, blocks=3),
    Row(kernel=5, stride=2, expansion=6, channels=192, blocks=4),
    Row(kernel=3, stride=1, expansion=6, channels=320, blocks=1),
)
STEM, HEAD = 32, 1280  # the same in every size


class EfficientNetLite(Model):
    """EfficientNet-Lite of any size.

    Modules: stem, stage1/block1/{expand, depthwise, project} … stage7, conv_head, head.

    Args:
      stages: the table.
      width, depth: multiply the stages' channels and blocks. Stem and head stay as they are, and
        so do the blocks of the first stage and the last.
      dropout_rate: dropout before the classifier.
      drop_path_rate: stochastic depth, growing linearly from 0 at the first block.
    """

    backbone_excludes: ClassVar[tuple[str, ...]] = ("conv_head",)

    stages: tuple[Row, ...] = STAGES
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
        self.check(x, train)
        conv = self.layers(ConvNorm, act="relu6")
        x = conv(STEM, 3, 2, name="stem")(x, train)
        rows = [self.scaled(row) for row in self.stages]
        total, inside, before = sum(row.blocks for row in rows), STEM, 0
        for number, row in enumerate(rows, start=1):
            blocks = []
            for i in range(row.blocks):
                blocks.append(
                    functools.partial(
                        InvertedResidual,
                        self.layers,
                        act="relu6",
                        kernel=row.kernel,
                        stride=row.stride if i == 0 else 1,
                        dilation=1,
                        expanded=row.expansion * inside,
                        channels=row.channels,
                        skip=i > 0 or row.stride == 1,
                        drop_path_rate=self.drop_path_rate * (before + i) / total,
                    )
                )
                inside = row.channels
            x = Stage(blocks, self.remat, name=f"stage{number}")(x, train)
            before += row.blocks
        x = conv(HEAD, name="conv_head")(x, train)
        return self.logits(x, train, self.dropout_rate)

    @nn.nowrap
    def scaled(self, row: Row) -> Row:
        """The stage at this model's width and depth."""
        fixed = row in (self.stages[0], self.stages[-1])
        return row._replace(
            channels=round_channels(row.channels * self.width),
            blocks=row.blocks if fixed else math.ceil(row.blocks * self.depth),
        )


@register(input_size=224)
def EfficientNetLite0(*, dropout_rate: float = 0.2, **options: Any) -> EfficientNetLite:
    """EfficientNet-Lite0: 4.7 million parameters at 1,000 classes."""
    return EfficientNetLite(width=1.0, depth=1.0, dropout_rate=dropout_rate, **options)


@register(input_size=240)
def EfficientNetLite1(*, dropout_rate: float = 0.2, **options: Any) -> EfficientNetLite:
    """EfficientNet-Lite1: 5.4 million parameters at 1,000 classes."""
    return EfficientNetLite(width=1.0, depth=1.1, dropout_rate=dropout_rate, **options)


@register(input_size=260)
def EfficientNetLite2(*, dropout_rate: float = 0.3, **options: Any) -> EfficientNetLite:
    """EfficientNet-Lite2: 6.1 million parameters at 1,000 classes."""
    return EfficientNetLite(width=1.1, depth=1.2, dropout_rate=dropout_rate, **options)


@register(input_size=280)
def EfficientNetLite3(*, dropout_rate: float = 0.3, **options: Any) -> EfficientNetLite:
    """EfficientNet-Lite3: 8.2 million parameters at 1,000 classes."""
    return EfficientNetLite(width=1.2, depth=1.4, dropout_rate=dropout_rate, **options)


@register(input_size=300)
def EfficientNetLite4(*, dropout_rate: float = 0.3, **options: Any) -> EfficientNetLite:
    """EfficientNet-Lite4: 13.0 million parameters at 1,000 classes."""
    return EfficientNetLite(width=1.4, depth=1.8, dropout_rate=dropout_rate, **options)
