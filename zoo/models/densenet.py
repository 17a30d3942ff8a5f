"""DenseNet.

Huang et al. 2017, arXiv 1608.06993, table 1 (the "BC" form: bottlenecks and compression).
"""

from typing import ClassVar, NamedTuple, Unpack

import flax.linen as nn
import jax
import jax.numpy as jnp

from zoo.models.base import Model, ModelOptions, register
from zoo.models.blocks import Stage, chain
from zoo.models.layers import BatchNorm, Conv, ConvNorm, LayerOptions, MaxPool, average_pool

BOTTLENECK = 4  # channels of a 1x1 convolution's output, as a multiple of the growth rate
COMPRESSION = 2  # a transition divides the channels by it


class BlockConfig(NamedTuple):
    """A dense layer: the channels that it adds, and its dropout."""

    growth_rate: int
    dropout_rate: float


class DenseLayer(nn.Module):
    """Adds channels made from all before: norm, 1x1 convolution, norm, 3x3 convolution."""

    config: BlockConfig
    options: LayerOptions

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H, W, C + growth_rate]."""
        growth_rate, dropout_rate = self.config
        layers = [
            BatchNorm("relu", self.options, name="preact"),
            ConvNorm(BOTTLENECK * growth_rate, options=self.options, name="bottleneck"),
            Conv(growth_rate, 3, options=self.options, name="grow"),
        ]
        y = chain(layers, x, train)
        y = nn.Dropout(dropout_rate, deterministic=not train, name="dropout")(y)
        return jnp.concatenate([x.astype(y.dtype), y], axis=-1)


class Transition(nn.Module):
    """Halves the channels and the size between two stages."""

    options: LayerOptions

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H / 2, W / 2, C / 2]."""
        preact = BatchNorm("relu", self.options, name="preact")
        reduce = Conv(x.shape[-1] // COMPRESSION, options=self.options, name="reduce")
        return average_pool(chain([preact, reduce], x, train), 2)


class DenseNet(Model, kw_only=True):
    """A densely connected network of any depth.

    Modules: stem, pool, stage1/block1/{preact, bottleneck, grow}, transition1/{preact, reduce} …
    stage4, preact, head.

    Args:
      depths: how many layers each stage has.
      growth_rate: the channels that a layer adds.
      stem_channels: the channels of the first convolution.
      dropout_rate: after each layer; the paper uses it only for data without augmentation.
    """

    architecture: ClassVar[tuple[str, ...]] = ("depths", "growth_rate", "stem_channels")

    depths: tuple[int, ...] = (6, 12, 24, 16)
    growth_rate: int = 32
    stem_channels: int = 64
    dropout_rate: float = 0.0

    @property
    def min_size(self) -> int:
        """A row is left behind the last transition."""
        return 29

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [N, H, W, C] → logits [N, num_classes], float32 or better."""
        self.check_images(x, train)
        options = self.layer_options
        x = ConvNorm(self.stem_channels, 7, 2, options=options, name="stem")(x, train)
        x = MaxPool(3, 2, self.padding, name="pool")(x)
        config = BlockConfig(self.growth_rate, self.dropout_rate)
        for number, depth in enumerate(self.depths, start=1):
            if number > 1:
                x = Transition(options, name=f"transition{number - 1}")(x, train)
            run = Stage(DenseLayer, [config] * depth, options, self.remat, name=f"stage{number}")
            x = run(x, train)
        x = BatchNorm("relu", options, name="preact")(x, train)
        return self.logits(x, train)


class DenseNetOptions(ModelOptions, total=False):
    """Arguments of the constructors; see `DenseNet`."""

    dropout_rate: float


@register()
def DenseNet121(**options: Unpack[DenseNetOptions]) -> DenseNet:
    """DenseNet-121: 8.0 million parameters at 1,000 classes."""
    return DenseNet(depths=(6, 12, 24, 16), **options)


@register()
def DenseNet161(**options: Unpack[DenseNetOptions]) -> DenseNet:
    """DenseNet-161, with growth rate 48: 28.7 million parameters at 1,000 classes."""
    return DenseNet(depths=(6, 12, 36, 24), growth_rate=48, stem_channels=96, **options)


@register()
def DenseNet169(**options: Unpack[DenseNetOptions]) -> DenseNet:
    """DenseNet-169: 14.1 million parameters at 1,000 classes."""
    return DenseNet(depths=(6, 12, 32, 32), **options)


@register()
def DenseNet201(**options: Unpack[DenseNetOptions]) -> DenseNet:
    """DenseNet-201: 20.0 million parameters at 1,000 classes."""
    return DenseNet(depths=(6, 12, 48, 32), **options)


@register()
def DenseNet264(**options: Unpack[DenseNetOptions]) -> DenseNet:
    """DenseNet-264: 33.3 million parameters at 1,000 classes."""
    return DenseNet(depths=(6, 12, 64, 48), **options)
