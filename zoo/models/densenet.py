"""DenseNet.

Huang et al. 2017, arXiv 1608.06993, table 1 (the "BC" form: bottlenecks and compression).
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from zoo.models.base import Model, register
from zoo.models.layers import BatchNorm, Conv, ConvNorm, Stage, max_pool

BOTTLENECK = 4  # a 1x1 convolution makes so many times the growth
COMPRESSION = 2  # a transition divides the channels by it


class DenseLayer(nn.Module):
    """Adds `growth` channels made from all before: norm, 1x1 convolution, norm, 3x3 convolution."""

    layers: Callable[..., Callable[..., Any]]
    growth: int
    dropout_rate: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H, W, C + growth]."""
        y = self.layers(BatchNorm, act="relu", kept=False)(name="preact")(x, train)
        squeeze = self.layers(ConvNorm, kept=False)(BOTTLENECK * self.growth, name="bottleneck")
        y = squeeze(y, train)
        y = self.layers(Conv)(self.growth, 3, name="grow")(y)
        y = nn.Dropout(self.dropout_rate, deterministic=not train, name="dropout")(y)
        return jnp.concatenate([x.astype(y.dtype), y], axis=-1)


class Transition(nn.Module):
    """Halves the channels and the size between two stages."""

    layers: Callable[..., Callable[..., Any]]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H / 2, W / 2, C / 2]."""
        y = self.layers(BatchNorm, act="relu", kept=False)(name="preact")(x, train)
        y = self.layers(Conv)(x.shape[-1] // COMPRESSION, name="reduce")(y)
        return nn.avg_pool(y, (2, 2), (2, 2))


class DenseNet(Model):
    """A densely connected network of any depth.

    Modules: stem, stage1/block1/{preact, bottleneck, grow}, transition1/{preact, reduce} …
    stage4, preact, head.

    Args:
      depths: how many layers each stage has.
      growth: the channels that a layer adds.
      stem: the channels of the first convolution.
      dropout_rate: after each layer; the paper uses it only for data without augmentation.
    """

    depths: tuple[int, ...] = (6, 12, 24, 16)
    growth: int = 32
    stem: int = 64
    dropout_rate: float = 0.0

    @property
    def min_size(self) -> int:
        """A row is left behind the last transition."""
        return 29

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [N, H, W, C] → logits [N, num_classes], float32 or better."""
        self.check(x, train)
        x = self.layers(ConvNorm)(self.stem, 7, 2, name="stem")(x, train)
        x = max_pool(x, 3, 2, padding=self.padding)
        layer = functools.partial(DenseLayer, self.layers, self.growth, self.dropout_rate)
        for number, depth in enumerate(self.depths, start=1):
            if number > 1:
                x = Transition(self.layers, name=f"transition{number - 1}")(x, train)
            x = Stage([layer] * depth, self.remat, name=f"stage{number}")(x, train)
        x = self.layers(BatchNorm, act="relu")(name="preact")(x, train)
        return self.logits(x, train)


@register()
def DenseNet121(**options: Any) -> DenseNet:
    """DenseNet-121: 8.0 million parameters at 1,000 classes."""
    return DenseNet(depths=(6, 12, 24, 16), **options)


@register()
def DenseNet161(**options: Any) -> DenseNet:
    """DenseNet-161, with growth 48: 28.7 million parameters at 1,000 classes."""
    return DenseNet(depths=(6, 12, 36, 24), growth=48, stem=96, **options)


@register()
def DenseNet169(**options: Any) -> DenseNet:
    """DenseNet-169: 14.1 million parameters at 1,000 classes."""
    return DenseNet(depths=(6, 12, 32, 32), **options)


@register()
def DenseNet201(**options: Any) -> DenseNet:
    """DenseNet-201: 20.0 million parameters at 1,000 classes."""
    return DenseNet(depths=(6, 12, 48, 32), **options)


@register()
def DenseNet264(**options: Any) -> DenseNet:
    """DenseNet-264: 33.3 million parameters at 1,000 classes."""
    return DenseNet(depths=(6, 12, 64, 48), **options)
