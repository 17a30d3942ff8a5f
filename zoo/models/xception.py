"""Xception.

Chollet 2017, arXiv 1610.02357, figure 5.
"""

from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax

from zoo.models.base import Model, register
from zoo.models.blocks import Stage, chain
from zoo.models.layers import Activation, Conv, ConvNorm, LayerOptions, MaxPool
from zoo.models.strides import stage_strides
from zoo_kernels import RecomputableArray


class BlockConfig(NamedTuple):
    """A block of separable convolutions.

    Args:
      channels: of the separable convolutions.
      pool: whether a pool of stride 2 comes at the end, and a convolution in the shortcut.
      relu: whether it begins with a ReLU. The model sets this and what follows.
      stride: of the pool and the shortcut's convolution.
      dilation: of the separable convolutions and the pool.
    """

    channels: tuple[int, ...]
    pool: bool
    relu: bool = True
    stride: int = 1
    dilation: int = 1


STEM = (32, 64)
# By stages: the entry flow's, of which the last goes on with the middle flow, and the exit flow's.
STAGES = (
    (BlockConfig((128, 128), pool=True),),
    (BlockConfig((256, 256), pool=True),),
    (
        BlockConfig((728, 728), pool=True),
        *[BlockConfig((728, 728, 728), pool=False)] * 8,
    ),
    (BlockConfig((728, 1024), pool=True),),
)
TAIL = (1536, 2048)


class Stem(nn.Module):
    """The two convolutions before the first block; they do not pad, as in the reference."""

    options: LayerOptions

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, (H − 1) / 2 − 2, (W − 1) / 2 − 2, 64]."""
        layers = [
            ConvNorm(STEM[0], 3, 2, padding="VALID", options=self.options, name="conv1"),
            ConvNorm(STEM[1], 3, 1, padding="VALID", options=self.options, name="conv2"),
        ]
        return chain(layers, x, train)


class Separable(nn.Module):
    """A depthwise and a pointwise convolution with nothing between them (section 3.2)."""

    begins_with_conv: ClassVar[bool] = True
    ends_with_norm: ClassVar[bool] = True

    channels: int
    dilation: int
    act: str
    options: LayerOptions

    @nn.compact
    def __call__(
        self,
        x: jax.Array | RecomputableArray,
        train: bool = False,
        residual: jax.Array | None = None,
        recompute: bool = False,
    ) -> Any:
        """[N, H, W, C] → [N, H, W, channels]; the arguments are as for `BatchNorm`."""
        c, options = x.shape[-1], self.options
        depthwise = Conv(c, 3, dilation=self.dilation, groups=c, options=options, name="depthwise")
        pointwise = ConvNorm(self.channels, act=self.act, options=options, name="pointwise")
        return pointwise(depthwise(x), train, residual, recompute)


class Block(nn.Module):
    """Separable convolutions, a pool in some, and a shortcut."""

    config: BlockConfig
    options: LayerOptions

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H / stride, W / stride, channels]."""
        channels, has_pool, relu, stride, dilation = self.config
        shortcut = x
        if has_pool:
            project = ConvNorm(
                channels[-1], 1, stride, act="identity", options=self.options, name="shortcut"
            )
            shortcut = project(x, train)
        acts = ["relu"] * (len(channels) - 1) + ["identity"]
        layers = [
            Separable(c, dilation, act, self.options, name=f"separable{number}")
            for number, (c, act) in enumerate(zip(channels, acts, strict=True), start=1)
        ]
        y = Activation("relu", name="relu")(x) if relu else x
        if not has_pool:
            return chain(layers, y, train, shortcut)
        y = chain(layers, y, train)
        pool = MaxPool(3, stride, self.options.padding, dilation, name="pool")
        return pool(y) + shortcut


@register(input_size=299)
class Xception(Model, kw_only=True):
    """Xception: 22.9 million parameters at 1,000 classes.

    Modules: stem/conv1, stem/conv2, stage1/block1/{separable1/{depthwise, pointwise}, shortcut,
    pool} … stage4, separable1, separable2, head. Stages 1 to 3 are the entry flow, whose last goes
    on with the middle flow, stage 4 and what follows are the exit flow.

    Args:
      stages: the table; each stage begins with a pool.
      dropout_rate: before the classifier.
      output_stride: 32, or 16 or 8 with dilation in place of the last strides.
    """

    architecture: ClassVar[tuple[str, ...]] = ("stages",)
    input_conv: ClassVar[str] = "stem/conv1/conv"

    stages: tuple[tuple[BlockConfig, ...], ...] = STAGES
    dropout_rate: float = 0.5
    output_stride: int = 32

    @property
    def min_size(self) -> int:
        """The first two convolutions do not pad."""
        return 7

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [N, H, W, C] → logits [N, num_classes], float32 or better."""
        self.check_images(x, train)
        options = self.layer_options
        x = Stem(options, name="stem")(x, train)
        strides = stage_strides(
            [(2 if stage[0].pool else 1, len(stage)) for stage in self.stages], self.output_stride
        )
        for number, (stage, blocks) in enumerate(zip(self.stages, strides, strict=True), start=1):
            configs = [
                config._replace(relu=number > 1, stride=block.stride, dilation=block.dilation)
                for config, block in zip(stage, blocks, strict=True)
            ]
            x = Stage(Block, configs, options, self.remat, name=f"stage{number}")(x, train)
        dilation = strides[-1][-1].dilation_after
        tail = [
            Separable(channels, dilation, "relu", options, name=f"separable{number}")
            for number, channels in enumerate(TAIL, start=1)
        ]
        return self.logits(chain(tail, x, train), train, self.dropout_rate)
