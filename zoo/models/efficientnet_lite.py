"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation and with ReLU6.

Tan and Le 2019, arXiv 1905.11946, table 1, and the reference implementation of the Lite variants,
tensorflow/tpu, models/official/efficientnet/lite.
"""

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from zoo.layers import ConvNorm, Stage, drop_path
from zoo.models.base import Model, register


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
      width, depth: multiply the stages' channels and blocks. Stem and head stay as they are, and
        so do the blocks of the first stage and the last.
      dropout_rate: dropout before the classifier.
      drop_path_rate: stochastic depth, growing linearly from 0 at the first block.
    """

    width: float = 1.0
    depth: float = 1.0
    dropout_rate: float = 0.2
    drop_path_rate: float = 0.2
    norm_eps: float = 1e-3
    norm_momentum: float = 0.99

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [N, H, W, C] → logits [N, num_classes], float32 or better."""
        self.check(x, train)
        conv = functools.partial(self.conv_norm(), act="relu6")
        x = conv(STEM, 3, strides=2, name="stem")(x, train)
        rows = [self.scaled(row) for row in STAGES]
        total, before = sum(row.blocks for row in rows), 0
        for number, row in enumerate(rows, start=1):
            blocks = [
                functools.partial(
                    MBConv,
                    conv,
                    row._replace(stride=row.stride if i == 0 else 1),
                    self.drop_path_rate * (before + i) / total,
                )
                for i in range(row.blocks)
            ]
            x = Stage(blocks, name=f"stage{number}")(x, train)
            before += row.blocks
        x = conv(HEAD, name="conv_head")(x, train)
        x = x.mean(axis=(1, 2))
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        x = nn.Dense(self.num_classes, dtype=self.dtype, param_dtype=self.param_dtype, name="head")(
            x
        )
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))

    def scaled(self, row: Row) -> Row:
        """The stage at this model's width and depth."""
        fixed = row in (STAGES[0], STAGES[-1])
        return row._replace(
            channels=round_channels(row.channels * self.width),
            blocks=row.blocks if fixed else math.ceil(row.blocks * self.depth),
        )


class MBConv(nn.Module):
    """Inverted residual block (Sandler et al. 2018, arXiv 1801.04381)."""

    conv: functools.partial[ConvNorm]
    row: Row
    drop_path_rate: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H / stride, W / stride, channels]."""
        row, channels = self.row, x.shape[-1] * self.row.expansion
        y = x
        if row.expansion > 1:
            y = self.conv(channels, name="expand")(y, train)
        y = self.conv(channels, row.kernel, strides=row.stride, groups=channels, name="depthwise")(
            y, train
        )
        y = self.conv(row.channels, act="identity", name="project")(y, train)
        if row.stride == 1 and x.shape == y.shape:
            y = x + drop_path(self, y, self.drop_path_rate, train)
        return y


def round_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of the divisor, but at least 90 % of the channels asked for."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


@register(input_size=224)
def EfficientNetLite0(dropout_rate: float = 0.2, **options: Any) -> EfficientNetLite:
    """EfficientNet-Lite0: 4.7 million parameters at 1,000 classes."""
    return EfficientNetLite(width=1.0, depth=1.0, dropout_rate=dropout_rate, **options)


@register(input_size=240)
def EfficientNetLite1(dropout_rate: float = 0.2, **options: Any) -> EfficientNetLite:
    """EfficientNet-Lite1: 5.4 million parameters at 1,000 classes."""
    return EfficientNetLite(width=1.0, depth=1.1, dropout_rate=dropout_rate, **options)


@register(input_size=260)
def EfficientNetLite2(dropout_rate: float = 0.3, **options: Any) -> EfficientNetLite:
    """EfficientNet-Lite2: 6.1 million parameters at 1,000 classes."""
    return EfficientNetLite(width=1.1, depth=1.2, dropout_rate=dropout_rate, **options)


@register(input_size=280)
def EfficientNetLite3(dropout_rate: float = 0.3, **options: Any) -> EfficientNetLite:
    """EfficientNet-Lite3: 8.2 million parameters at 1,000 classes."""
    return EfficientNetLite(width=1.2, depth=1.4, dropout_rate=dropout_rate, **options)


@register(input_size=300)
def EfficientNetLite4(dropout_rate: float = 0.3, **options: Any) -> EfficientNetLite:
    """EfficientNet-Lite4: 13.0 million parameters at 1,000 classes."""
    return EfficientNetLite(width=1.4, depth=1.8, dropout_rate=dropout_rate, **options)
