"""SqueezeNet 1.0 and 1.1.

Iandola et al. 2016, arXiv 1602.07360, table 1; 1.1 is the authors' later, 2.4 times cheaper one
(github.com/forresti/SqueezeNet).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from zoo.models.base import Model, register, wide
from zoo.models.layers import Conv, Stage, max_pool


class Table(NamedTuple):
    """A version: its first convolution, and the squeezed channels of the fire modules.

    A fire module expands to four times its squeezed channels by 1x1 and by 3x3 kernels each. A pool
    comes before each stage.
    """

    stem: int
    kernel: int
    stages: tuple[tuple[int, ...], ...]


V1_0 = Table(stem=96, kernel=7, stages=((16, 16, 32), (32, 48, 48, 64), (64,)))
V1_1 = Table(stem=64, kernel=3, stages=((16, 16), (32, 32), (48, 48, 64, 64)))
EXPANSION = 4


class Fire(nn.Module):
    """Squeezes the channels, then expands them by 1x1 and by 3x3 kernels side by side."""

    conv: Callable[..., Conv]
    squeezed: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H, W, 8 · squeezed]."""
        x = self.conv(self.squeezed, name="squeeze")(x)
        expand = EXPANSION * self.squeezed
        y1 = self.conv(expand, 1, name="expand1x1")(x)
        y3 = self.conv(expand, 3, name="expand3x3")(x)
        return jnp.concatenate([y1, y3], axis=-1)


class SqueezeNet(Model):
    """SqueezeNet of either version.

    Modules: stem, stage1/block1/{squeeze, expand1x1, expand3x3} … stage3, head.

    Args:
      table: the version.
      dropout_rate: before the last convolution.
    """

    table: Table = V1_1
    dropout_rate: float = 0.5

    @property
    def min_size(self) -> int:
        """A last row is left behind the first convolution and three pools."""
        return self.table.kernel + 14

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [N, H, W, C] → logits [N, num_classes], float32 or better, at least 0."""
        self.check(x, train)
        conv = self.layers(Conv, use_bias=True, act="relu")
        stem, kernel, stages = self.table
        x = conv(stem, kernel, 2, padding="VALID", name="stem")(x)
        for number, squeezed in enumerate(stages, start=1):
            x = max_pool(x, 3, 2, padding=0, ceil=True)
            blocks = [functools.partial(Fire, conv, channels) for channels in squeezed]
            x = Stage(blocks, self.remat, name=f"stage{number}")(x, train)
        x = nn.Dropout(self.dropout_rate, deterministic=not train, name="dropout")(x)
        return wide(conv(self.num_classes, name="head")(x).mean(axis=(1, 2)))


@register()
def SqueezeNet1_0(**options: Any) -> SqueezeNet:
    """SqueezeNet 1.0: 1.2 million parameters at 1,000 classes."""
    return SqueezeNet(table=V1_0, **options)


@register()
def SqueezeNet1_1(**options: Any) -> SqueezeNet:
    """SqueezeNet 1.1: 1.2 million parameters at 1,000 classes."""
    return SqueezeNet(table=V1_1, **options)
