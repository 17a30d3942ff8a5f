"""VGG, plain and with batch normalisation.

Simonyan and Zisserman 2015, arXiv 1409.1556, table 1: configurations A, B, D and E. Batch
normalisation after each convolution is torchvision's addition.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax

from zoo.models.base import Model, register
from zoo.models.layers import ConvNorm, Dense, adaptive_mean, call, max_pool

CHANNELS = (64, 128, 256, 512, 512)  # of the stages
A, B, D, E = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)  # convolutions
POOLED = 7  # what the first fully connected layer sees, in height and width


class Convolutions(nn.Module):
    """3x3 convolutions, named conv1, conv2 and so on, and a pool that halves the size."""

    conv: Callable[..., ConvNorm]
    channels: int
    depth: int
    remat: bool

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H / 2, W / 2, channels]."""
        for number in range(1, self.depth + 1):
            kept = self.remat or number == self.depth
            conv = self.conv(self.channels, 3, kept=kept, name=f"conv{number}")
            x = call(conv, x, train, self.remat)
        return max_pool(x, 2, 2)


class VGG(Model):
    """VGG of any depth.

    Modules: stage1/conv1 … stage5/conv4, fc6, fc7, head.

    Args:
      depths: how many convolutions each stage has.
      norm: whether batch normalisation follows each convolution. Without it the convolutions are
        built as fused ones, so that `zoo.fuse` makes the one architecture of the other.
      hidden: the features of the hidden fully connected layers.
      dropout_rate: after each hidden fully connected layer.
    """

    classifier: ClassVar[tuple[str, ...]] = ("fc6", "fc7", "head")

    depths: tuple[int, ...] = D
    norm: bool = False
    hidden: int = 4096
    dropout_rate: float = 0.5

    @property
    def min_size(self) -> int:
        """Five pools halve it."""
        return 32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [N, H, W, C] → logits [N, num_classes], float32 or better."""
        self.check(x, train)
        conv = self.layers(ConvNorm, use_bias=True, fused=self.fused or not self.norm)
        for number, (depth, channels) in enumerate(
            zip(self.depths, CHANNELS, strict=True), start=1
        ):
            x = Convolutions(conv, channels, depth, self.remat, name=f"stage{number}")(x, train)
        x = adaptive_mean(x, POOLED).reshape(x.shape[0], -1)
        dense = self.layers(Dense, act="relu")
        x = dense(self.hidden, name="fc6")(x)
        x = nn.Dropout(self.dropout_rate, deterministic=not train, name="dropout6")(x)
        x = dense(self.hidden, name="fc7")(x)
        return self.logits(x, train, self.dropout_rate)


@register()
def VGG11(**options: Any) -> VGG:
    """VGG-11, configuration A: 132.9 million parameters at 1,000 classes."""
    return VGG(depths=A, **options)


@register()
def VGG11_BN(**options: Any) -> VGG:
    """VGG-11 with batch normalisation: 132.9 million parameters at 1,000 classes."""
    return VGG(depths=A, norm=True, **options)


@register()
def VGG13(**options: Any) -> VGG:
    """VGG-13, configuration B: 133.0 million parameters at 1,000 classes."""
    return VGG(depths=B, **options)


@register()
def VGG13_BN(**options: Any) -> VGG:
    """VGG-13 with batch normalisation: 133.1 million parameters at 1,000 classes."""
    return VGG(depths=B, norm=True, **options)


@register()
def VGG16(**options: Any) -> VGG:
    """VGG-16, configuration D: 138.4 million parameters at 1,000 classes."""
    return VGG(depths=D, **options)


@register()
def VGG16_BN(**options: Any) -> VGG:
    """VGG-16 with batch normalisation: 138.4 million parameters at 1,000 classes."""
    return VGG(depths=D, norm=True, **options)


@register()
def VGG19(**options: Any) -> VGG:
    """VGG-19, configuration E: 143.7 million parameters at 1,000 classes."""
    return VGG(depths=E, **options)


@register()
def VGG19_BN(**options: Any) -> VGG:
    """VGG-19 with batch normalisation: 143.7 million parameters at 1,000 classes."""
    return VGG(depths=E, norm=True, **options)
