"""SqueezeNet 1.0 and 1.1.

Iandola et al. 2016, arXiv 1602.07360, table 1; 1.1 is the authors' later, 2.4 times cheaper one
(github.com/forresti/SqueezeNet).
"""

from typing import ClassVar, NamedTuple, Unpack

import flax.linen as nn
import jax
import jax.numpy as jnp

from zoo.models.base import Model, ModelOptions, register
from zoo.models.blocks import Stage
from zoo.models.layers import Conv, LayerOptions, MaxPool, promote_to_float32


class Version(NamedTuple):
    """A version: its first convolution, and the squeezed channels of the fire modules.

    A fire module expands to four times its squeezed channels by 1x1 and by 3x3 kernels each. A pool
    comes before each stage.
    """

    stem_channels: int
    stem_kernel: int
    stages: tuple[tuple[int, ...], ...]


V1_0 = Version(stem_channels=96, stem_kernel=7, stages=((16, 16, 32), (32, 48, 48, 64), (64,)))
V1_1 = Version(stem_channels=64, stem_kernel=3, stages=((16, 16), (32, 32), (48, 48, 64, 64)))
EXPANSION = 4


class Fire(nn.Module):
    """Squeezes the channels, then expands them by 1x1 and by 3x3 kernels side by side."""

    squeezed: int
    options: LayerOptions

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H, W, 8 · squeezed]."""
        expanded = EXPANSION * self.squeezed
        x = relu_conv(self.squeezed, 1, self.options, "squeeze")(x)
        y1 = relu_conv(expanded, 1, self.options, "expand1x1")(x)
        y3 = relu_conv(expanded, 3, self.options, "expand3x3")(x)
        return jnp.concatenate([y1, y3], axis=-1)


def relu_conv(features: int, kernel_size: int, options: LayerOptions, name: str) -> Conv:
    """A convolution with a bias and a ReLU, as all of SqueezeNet's are."""
    return Conv(features, kernel_size, use_bias=True, act="relu", options=options, name=name)


class SqueezeNet(Model, kw_only=True):
    """SqueezeNet of either version.

    Modules: stem, pool1, stage1/block1/{squeeze, expand1x1, expand3x3} … stage3, head.

    Args:
      version: V1_0 or V1_1.
      dropout_rate: before the last convolution.
    """

    architecture: ClassVar[tuple[str, ...]] = ("version",)
    input_conv: ClassVar[str] = "stem"

    version: Version = V1_1
    dropout_rate: float = 0.5

    @property
    def min_size(self) -> int:
        """A last row is left behind the first convolution and three pools."""
        return self.version.stem_kernel + 14

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [N, H, W, C] → logits [N, num_classes], float32 or better, at least 0."""
        self.check_images(x, train)
        options = self.layer_options
        channels, kernel, stages = self.version
        x = Conv(
            channels, kernel, 2, "VALID", use_bias=True, act="relu", options=options, name="stem"
        )(x)
        for number, squeezed in enumerate(stages, start=1):
            x = MaxPool(3, 2, padding=0, ceil=True, name=f"pool{number}")(x)
            x = Stage(Fire, squeezed, options, self.remat, name=f"stage{number}")(x, train)
        x = nn.Dropout(self.dropout_rate, deterministic=not train, name="dropout")(x)
        x = relu_conv(self.num_classes, 1, options, "head")(x)
        return promote_to_float32(x.mean(axis=(1, 2)))


class SqueezeNetOptions(ModelOptions, total=False):
    """Arguments of the constructors; see `SqueezeNet`."""

    dropout_rate: float


@register()
def SqueezeNet1_0(**options: Unpack[SqueezeNetOptions]) -> SqueezeNet:
    """SqueezeNet 1.0: 1.2 million parameters at 1,000 classes."""
    return SqueezeNet(version=V1_0, **options)


@register()
def SqueezeNet1_1(**options: Unpack[SqueezeNetOptions]) -> SqueezeNet:
    """SqueezeNet 1.1: 1.2 million parameters at 1,000 classes."""
    return SqueezeNet(version=V1_1, **options)
