"""VGG, plain and with batch normalisation.

Simonyan and Zisserman 2015, arXiv 1409.1556, table 1: configurations A, B, D and E. Batch
normalisation after each convolution is torchvision's addition.
"""

from typing import ClassVar, NamedTuple, Unpack

import flax.linen as nn
import jax

from zoo.models.base import Model, ModelOptions, register
from zoo.models.blocks import apply_block, chain
from zoo.models.layers import ConvNorm, Dense, LayerOptions, MaxPool, adaptive_average_pool

CHANNELS = (64, 128, 256, 512, 512)  # of the stages
A, B, D, E = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)  # convolutions
POOLED = 7  # what the first fully connected layer sees, in height and width


class StageConfig(NamedTuple):
    """A stage: its channels, convolutions, whether with batch norms, and its pool; see `VGG`."""

    channels: int
    depth: int
    norm: bool
    ceil_pool: bool


class ConvStage(nn.Module):
    """3x3 convolutions, named conv1, conv2 and so on, and a pool that halves the size."""

    config: StageConfig
    options: LayerOptions
    remat: bool

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H / 2, W / 2, channels]."""
        channels, depth, norm, ceil_pool = self.config
        layers = [
            ConvNorm(
                channels, 3, use_bias=True, norm=norm, options=self.options, name=f"conv{number}"
            )
            for number in range(1, depth + 1)
        ]
        if norm and not self.remat:
            x = chain(layers, x, train)
        else:
            for layer in layers:
                x = apply_block(layer, x, train, self.remat)
        return MaxPool(2, 2, ceil=ceil_pool, name="pool")(x)


class VGG(Model, kw_only=True):
    """VGG of any depth.

    Modules: stage1/conv1, stage1/pool … stage5/conv4, stage5/pool, fc6, fc7, head.

    Args:
      depths: how many convolutions each stage has.
      norm: whether batch normalisation follows each convolution; `zoo.fuse` makes a model without
        it of one with it.
      hidden_features: of the hidden fully connected layers.
      dropout_rate: after each hidden fully connected layer.
      ceil_pool: pools keep the last row and column of a map of an odd size.
    """

    architecture: ClassVar[tuple[str, ...]] = ("depths", "norm")
    input_conv: ClassVar[str] = "stage1/conv1/conv"
    classifier: ClassVar[tuple[str, ...]] = ("fc6", "fc7", "head")

    depths: tuple[int, ...] = D
    norm: bool = False
    hidden_features: int = 4096
    dropout_rate: float = 0.5
    ceil_pool: bool = False

    @property
    def min_size(self) -> int:
        """Five pools halve it."""
        return 32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [N, H, W, C] → logits [N, num_classes], float32 or better."""
        self.check_images(x, train)
        options = self.layer_options
        for number, (channels, depth) in enumerate(
            zip(CHANNELS, self.depths, strict=True), start=1
        ):
            config = StageConfig(channels, depth, self.norm, self.ceil_pool)
            x = ConvStage(config, options, self.remat, name=f"stage{number}")(x, train)
        x = adaptive_average_pool(x, POOLED).reshape(x.shape[0], -1)
        x = Dense(self.hidden_features, act="relu", options=options, name="fc6")(x)
        x = nn.Dropout(self.dropout_rate, deterministic=not train, name="dropout6")(x)
        x = Dense(self.hidden_features, act="relu", options=options, name="fc7")(x)
        return self.logits(x, train, self.dropout_rate)


class VGGOptions(ModelOptions, total=False):
    """Arguments of the constructors; see `VGG`."""

    hidden_features: int
    dropout_rate: float
    ceil_pool: bool


@register()
def VGG11(**options: Unpack[VGGOptions]) -> VGG:
    """VGG-11, configuration A: 132.9 million parameters at 1,000 classes."""
    return VGG(depths=A, **options)


@register()
def VGG11_BN(**options: Unpack[VGGOptions]) -> VGG:
    """VGG-11 with batch normalisation: 132.9 million parameters at 1,000 classes."""
    return VGG(depths=A, norm=True, **options)


@register()
def VGG13(**options: Unpack[VGGOptions]) -> VGG:
    """VGG-13, configuration B: 133.0 million parameters at 1,000 classes."""
    return VGG(depths=B, **options)


@register()
def VGG13_BN(**options: Unpack[VGGOptions]) -> VGG:
    """VGG-13 with batch normalisation: 133.1 million parameters at 1,000 classes."""
    return VGG(depths=B, norm=True, **options)


@register()
def VGG16(**options: Unpack[VGGOptions]) -> VGG:
    """VGG-16, configuration D: 138.4 million parameters at 1,000 classes."""
    return VGG(depths=D, **options)


@register()
def VGG16_BN(**options: Unpack[VGGOptions]) -> VGG:
    """VGG-16 with batch normalisation: 138.4 million parameters at 1,000 classes."""
    return VGG(depths=D, norm=True, **options)


@register()
def VGG19(**options: Unpack[VGGOptions]) -> VGG:
    """VGG-19, configuration E: 143.7 million parameters at 1,000 classes."""
    return VGG(depths=E, **options)


@register()
def VGG19_BN(**options: Unpack[VGGOptions]) -> VGG:
    """VGG-19 with batch normalisation: 143.7 million parameters at 1,000 classes."""
    return VGG(depths=E, norm=True, **options)
