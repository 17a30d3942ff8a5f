"""ResNet, ResNeXt and Wide ResNet.

He et al. 2016, arXiv 1512.03385, table 1; Xie et al. 2017, arXiv 1611.05431, table 1; Zagoruyko and
Komodakis 2016, arXiv 1605.07146. As in torchvision, a bottleneck's stride is at its 3x3
convolution ("v1.5") and not at the first 1x1, unless `stride_in_1x1` asks for it.
"""

from typing import ClassVar, NamedTuple, Unpack

import flax.linen as nn
import jax

from zoo.models.base import Model, ModelOptions, register
from zoo.models.blocks import Stage, chain
from zoo.models.layers import ConvNorm, LayerOptions, MaxPool
from zoo.models.strides import BlockStrides, stage_strides

STEM = 64
CHANNELS = (64, 128, 256, 512)  # of the stages, before a bottleneck's expansion
STRIDES = (1, 2, 2, 2)


class BlockConfig(NamedTuple):
    """A residual block; what is behind `strides` is a bottleneck's alone, see `ResNet`."""

    channels: int
    strides: BlockStrides
    groups: int
    base_width: int
    stride_in_1x1: bool


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (ResNet's figure 5, left)."""

    config: BlockConfig
    options: LayerOptions

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H / stride, W / stride, channels]."""
        c, (stride, dilation, dilation_after) = self.config.channels, self.config.strides
        options = self.options
        layers = [
            ConvNorm(c, 3, stride, dilation=dilation, options=options, name="conv1"),
            ConvNorm(c, 3, dilation=dilation_after, options=options, name="conv2"),
        ]
        return chain(layers, x, train, shortcut(x, c, stride, options))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut (ResNet's figure 5, right; ResNeXt's 3c)."""

    config: BlockConfig
    options: LayerOptions

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H / stride, W / stride, 4 · channels]."""
        channels, (stride, dilation, _), groups, base_width, stride_in_1x1 = self.config
        options = self.options
        inner, outer = channels * base_width // 64 * groups, channels * 4
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        layers = [
            ConvNorm(inner, 1, first, options=options, name="conv1"),
            ConvNorm(
                inner, 3, second, dilation=dilation, groups=groups, options=options, name="conv2"
            ),
            ConvNorm(outer, options=options, name="conv3"),
        ]
        return chain(layers, x, train, shortcut(x, outer, stride, options))


def shortcut(
    x: jax.Array, channels: int, stride: int, options: LayerOptions
) -> jax.Array | ConvNorm:
    """A block's input, or the convolution that brings it to the output's shape."""
    if stride == 1 and x.shape[-1] == channels:
        return x
    return ConvNorm(channels, 1, stride, act="identity", options=options, name="shortcut")


class ResNet(Model, kw_only=True):
    """A residual network of any depth.

    Modules: stem, pool, stage1/block1/{conv1, conv2, conv3, shortcut} … stage4, head.

    Args:
      depths: how many blocks each stage has.
      bottleneck: which kind the blocks are, Bottleneck or BasicBlock.
      groups, base_width: of a bottleneck's 3x3 convolution, which has
        channels · base_width / 64 · groups channels.
      stride_in_1x1: a bottleneck's stride is at its first convolution, as in the paper and Keras.
      output_stride: 32, or 16 or 8 with dilation in place of the last strides.
    """

    architecture: ClassVar[tuple[str, ...]] = ("depths", "bottleneck", "groups", "base_width")

    depths: tuple[int, ...] = (3, 4, 6, 3)
    bottleneck: bool = True
    groups: int = 1
    base_width: int = 64
    stride_in_1x1: bool = False
    output_stride: int = 32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [N, H, W, C] → logits [N, num_classes], float32 or better."""
        self.check_images(x, train)
        options = self.layer_options
        x = ConvNorm(STEM, 7, 2, options=options, name="stem")(x, train)
        x = MaxPool(3, 2, self.padding, name="pool")(x)
        block = Bottleneck if self.bottleneck else BasicBlock
        strides = stage_strides(
            list(zip(STRIDES, self.depths, strict=True)), self.output_stride, stem_stride=4
        )
        for number, blocks in enumerate(strides, start=1):
            configs = [
                BlockConfig(
                    CHANNELS[number - 1],
                    block_strides,
                    self.groups,
                    self.base_width,
                    self.stride_in_1x1,
                )
                for block_strides in blocks
            ]
            x = Stage(block, configs, options, self.remat, name=f"stage{number}")(x, train)
        return self.logits(x, train)


class ResNetOptions(ModelOptions, total=False):
    """Arguments of the constructors; see `ResNet`."""

    stride_in_1x1: bool
    output_stride: int


@register()
def ResNet18(**options: Unpack[ResNetOptions]) -> ResNet:
    """ResNet-18: 11.7 million parameters at 1,000 classes."""
    return ResNet(depths=(2, 2, 2, 2), bottleneck=False, **options)


@register()
def ResNet34(**options: Unpack[ResNetOptions]) -> ResNet:
    """ResNet-34: 21.8 million parameters at 1,000 classes."""
    return ResNet(depths=(3, 4, 6, 3), bottleneck=False, **options)


@register()
def ResNet50(**options: Unpack[ResNetOptions]) -> ResNet:
    """ResNet-50: 25.6 million parameters at 1,000 classes."""
    return ResNet(depths=(3, 4, 6, 3), **options)


@register()
def ResNet101(**options: Unpack[ResNetOptions]) -> ResNet:
    """ResNet-101: 44.5 million parameters at 1,000 classes."""
    return ResNet(depths=(3, 4, 23, 3), **options)


@register()
def ResNet152(**options: Unpack[ResNetOptions]) -> ResNet:
    """ResNet-152: 60.2 million parameters at 1,000 classes."""
    return ResNet(depths=(3, 8, 36, 3), **options)


@register()
def ResNeXt50_32x4d(**options: Unpack[ResNetOptions]) -> ResNet:
    """ResNeXt-50, 32 groups of 4 channels: 25.0 million parameters at 1,000 classes."""
    return ResNet(depths=(3, 4, 6, 3), groups=32, base_width=4, **options)


@register()
def ResNeXt101_32x8d(**options: Unpack[ResNetOptions]) -> ResNet:
    """ResNeXt-101, 32 groups of 8 channels: 88.8 million parameters at 1,000 classes."""
    return ResNet(depths=(3, 4, 23, 3), groups=32, base_width=8, **options)


@register()
def ResNeXt101_64x4d(**options: Unpack[ResNetOptions]) -> ResNet:
    """ResNeXt-101, 64 groups of 4 channels: 83.5 million parameters at 1,000 classes."""
    return ResNet(depths=(3, 4, 23, 3), groups=64, base_width=4, **options)


@register()
def WideResNet50_2(**options: Unpack[ResNetOptions]) -> ResNet:
    """Wide ResNet-50, twice as wide inside: 68.9 million parameters at 1,000 classes."""
    return ResNet(depths=(3, 4, 6, 3), base_width=128, **options)


@register()
def WideResNet101_2(**options: Unpack[ResNetOptions]) -> ResNet:
    """Wide ResNet-101, twice as wide inside: 126.9 million parameters at 1,000 classes."""
    return ResNet(depths=(3, 4, 23, 3), base_width=128, **options)
