"""MobileNetV1.

Howard et al. 2017, arXiv 1704.04861, table 1; ReLU6 as in the authors' implementation.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax

from zoo.models.base import Model, Step, register, steps
from zoo.models.inverted_residual import round_channels
from zoo.models.layers import ConvNorm, Stage


class Row(NamedTuple):
    """A stage: depthwise separable convolutions, the first of them with the stride."""

    stride: int
    channels: int
    blocks: int


STEM = 32
STAGES = (
    Row(stride=1, channels=64, blocks=1),
    Row(stride=2, channels=128, blocks=2),
    Row(stride=2, channels=256, blocks=2),
    Row(stride=2, channels=512, blocks=6),
    Row(stride=2, channels=1024, blocks=2),
)


class Separable(nn.Module):
    """A depthwise and a pointwise convolution, each normalised (figure 3, right)."""

    conv: Callable[..., ConvNorm]
    channels: int
    step: Step

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H / stride, W / stride, channels]."""
        c, (stride, dilation, _) = x.shape[-1], self.step
        window = {"dilation": dilation, "groups": c}
        x = self.conv(c, 3, stride, **window, kept=False, name="depthwise")(x, train)
        return self.conv(self.channels, name="pointwise")(x, train)


@register()
class MobileNetV1(Model):
    """MobileNetV1: 4.2 million parameters at 1,000 classes and width 1.

    Modules: stem, stage1/block1/{depthwise, pointwise} … stage5, head.

    Args:
      stages: the table.
      width: multiplies all channels, which are then rounded to multiples of 8.
      dropout_rate: before the classifier.
      output_stride: 32, or 16 or 8 with dilation in place of the last strides.
    """

    stages: tuple[Row, ...] = STAGES
    width: float = 1.0
    dropout_rate: float = 0.001
    output_stride: int = 32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [N, H, W, C] → logits [N, num_classes], float32 or better."""
        self.check(x, train)
        conv = self.layers(ConvNorm, act="relu6")
        x = conv(round_channels(STEM * self.width), 3, 2, name="stem")(x, train)
        spent = steps([row.stride for row in self.stages], self.output_stride)
        for number, (row, step) in enumerate(zip(self.stages, spent, strict=True), start=1):
            channels = round_channels(row.channels * self.width)
            blocks = [functools.partial(Separable, conv, channels, s) for s in step.of(row.blocks)]
            x = Stage(blocks, self.remat, name=f"stage{number}")(x, train)
        return self.logits(x, train, self.dropout_rate)
