"""ResNet, ResNeXt and Wide ResNet.

He et al. 2016, arXiv 1512.03385, table 1; Xie et al. 2017, arXiv 1611.05431, table 1; Zagoruyko and
Komodakis 2016, arXiv 1605.07146. As in torchvision, a bottleneck's stride is at its 3x3
convolution ("v1.5") and not at the first 1x1, unless `stride_in_1x1` asks for it.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from zoo.models.base import Model, Step, register, steps
from zoo.models.layers import ConvNorm, Stage, max_pool

STEM = 64
CHANNELS = (64, 128, 256, 512)  # of the stages, before a bottleneck's expansion
STRIDES = (1, 2, 2, 2)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (ResNet's figure 5, left)."""

    conv: Callable[..., ConvNorm]
    channels: int
    step: Step

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H / stride, W / stride, channels]."""
        stride, dilation, after = self.step
        first = functools.partial(self.conv, kept=False, name="conv1")
        y = first(self.channels, 3, stride, dilation=dilation)(x, train)
        if stride > 1 or x.shape[-1] != self.channels:
            x = self.conv(self.channels, 1, stride, act="identity", name="shortcut")(x, train)
        return self.conv(self.channels, 3, dilation=after, name="conv2")(y, train, x)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut (ResNet's figure 5, right; ResNeXt's 3c)."""

    conv: Callable[..., ConvNorm]
    channels: int
    step: Step
    groups: int = 1
    base_width: int = 64
    stride_in_1x1: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H / stride, W / stride, 4 · channels]."""
        stride, dilation, _ = self.step
        inner = self.channels * self.base_width // 64 * self.groups
        outer = self.channels * 4
        first, second = (stride, 1) if self.stride_in_1x1 else (1, stride)
        inside = functools.partial(self.conv, inner, kept=False)
        filters = inside(3, second, dilation=dilation, groups=self.groups, name="conv2")
        y = filters(inside(1, first, name="conv1")(x, train), train)
        if stride > 1 or x.shape[-1] != outer:
            x = self.conv(outer, 1, stride, act="identity", name="shortcut")(x, train)
        return self.conv(outer, name="conv3")(y, train, x)


class ResNet(Model):
    """A residual network of any depth.

    Modules: stem, stage1/block1/{conv1, conv2, conv3, shortcut} … stage4, head.

    Args:
      depths: how many blocks each stage has.
      bottleneck: of which kind the blocks are, Bottleneck or BasicBlock.
      groups, base_width: of a bottleneck's 3x3 convolution, which has
        channels · base_width / 64 · groups channels.
      stride_in_1x1: a bottleneck's stride is at its first convolution, as in the paper and Keras.
      output_stride: 32, or 16 or 8 with dilation in place of the last strides.
    """

    depths: tuple[int, ...] = (3, 4, 6, 3)
    bottleneck: bool = True
    groups: int = 1
    base_width: int = 64
    stride_in_1x1: bool = False
    output_stride: int = 32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [N, H, W, C] → logits [N, num_classes], float32 or better."""
        self.check(x, train)
        conv = self.layers(ConvNorm)
        block: Callable[..., nn.Module] = functools.partial(BasicBlock, conv)
        if self.bottleneck:
            own = ("groups", "base_width", "stride_in_1x1")
            block = functools.partial(
                Bottleneck, conv, **{name: getattr(self, name) for name in own}
            )
        x = max_pool(conv(STEM, 7, 2, name="stem")(x, train), 3, 2, padding=self.padding)
        spent = steps(STRIDES, self.output_stride, stem=4)
        for number, (depth, channels, step) in enumerate(
            zip(self.depths, CHANNELS, spent, strict=True), start=1
        ):
            blocks = [functools.partial(block, channels, s) for s in step.of(depth)]
            x = Stage(blocks, self.remat, name=f"stage{number}")(x, train)
        return self.logits(x, train)


@register()
def ResNet18(**options: Any) -> ResNet:
    """ResNet-18: 11.7 million parameters at 1,000 classes."""
    return ResNet(depths=(2, 2, 2, 2), bottleneck=False, **options)


@register()
def ResNet34(**options: Any) -> ResNet:
    """ResNet-34: 21.8 million parameters at 1,000 classes."""
    return ResNet(depths=(3, 4, 6, 3), bottleneck=False, **options)


@register()
def ResNet50(**options: Any) -> ResNet:
    """ResNet-50: 25.6 million parameters at 1,000 classes."""
    return ResNet(depths=(3, 4, 6, 3), **options)


@register()
def ResNet101(**options: Any) -> ResNet:
    """ResNet-101: 44.5 million parameters at 1,000 classes."""
    return ResNet(depths=(3, 4, 23, 3), **options)


@register()
def ResNet152(**options: Any) -> ResNet:
    """ResNet-152: 60.2 million parameters at 1,000 classes."""
    return ResNet(depths=(3, 8, 36, 3), **options)


@register()
def ResNeXt50_32x4d(**options: Any) -> ResNet:
    """ResNeXt-50, 32 groups of 4 channels: 25.0 million parameters at 1,000 classes."""
    return ResNet(depths=(3, 4, 6, 3), groups=32, base_width=4, **options)


@register()
def ResNeXt101_32x8d(**options: Any) -> ResNet:
    """ResNeXt-101, 32 groups of 8 channels: 88.8 million parameters at 1,000 classes."""
    return ResNet(depths=(3, 4, 23, 3), groups=32, base_width=8, **options)


@register()
def ResNeXt101_64x4d(**options: Any) -> ResNet:
    """ResNeXt-101, 64 groups of 4 channels: 83.5 million parameters at 1,000 classes."""
    return ResNet(depths=(3, 4, 23, 3), groups=64, base_width=4, **options)


@register()
def WideResNet50_2(**options: Any) -> ResNet:
    """Wide ResNet-50, twice as wide inside: 68.9 million parameters at 1,000 classes."""
    return ResNet(depths=(3, 4, 6, 3), base_width=128, **options)


@register()
def WideResNet101_2(**options: Any) -> ResNet:
    """Wide ResNet-101, twice as wide inside: 126.9 million parameters at 1,000 classes."""
    return ResNet(depths=(3, 4, 23, 3), base_width=128, **options)
