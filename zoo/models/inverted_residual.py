"""What the mobile families share: the inverted residual block, and how channels are rounded."""

from typing import NamedTuple

import flax.linen as nn
import jax

from zoo.models.blocks import chain, drop_path
from zoo.models.layers import Conv, ConvNorm, LayerOptions


class InvertedResidualConfig(NamedTuple):
    """An inverted residual block.

    Args:
      act: the activation behind the expansion and the depthwise convolution.
      kernel_size, stride, dilation: of the depthwise convolution.
      expanded: the channels inside; as many as come in means no expansion.
      channels: the channels that go out.
      skip: adds the input, if it has as many channels.
      squeezed: the channels inside squeeze-and-excitation; 0 for none.
      drop_path_rate: stochastic depth.
    """

    act: str
    kernel_size: int
    stride: int
    dilation: int
    expanded: int
    channels: int
    skip: bool
    squeezed: int = 0
    drop_path_rate: float = 0.0


class InvertedResidual(nn.Module):
    """Expands the channels, filters each, and projects them (Sandler et al. 2018, 1801.04381).

    Modules: expand, depthwise, squeeze_excite/{reduce, expand}, project.
    """

    config: InvertedResidualConfig
    options: LayerOptions

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H / stride, W / stride, channels]."""
        config, options = self.config, self.options
        expand = []
        if config.expanded != x.shape[-1]:
            expand = [ConvNorm(config.expanded, act=config.act, options=options, name="expand")]
        depthwise = ConvNorm(
            config.expanded,
            config.kernel_size,
            config.stride,
            dilation=config.dilation,
            groups=config.expanded,
            act=config.act,
            options=options,
            name="depthwise",
        )
        project = ConvNorm(config.channels, act="identity", options=options, name="project")
        skip = config.skip and x.shape[-1] == config.channels
        drop = skip and train and config.drop_path_rate > 0
        residual = x if skip and not drop else None
        if config.squeezed:
            y = chain([*expand, depthwise], x, train)
            y = SqueezeExcite(config.squeezed, options, name="squeeze_excite")(y)
            y = project(y, train, residual)
        else:
            y = chain([*expand, depthwise, project], x, train, residual)
        return x + drop_path(self, y, config.drop_path_rate, train) if drop else y


class SqueezeExcite(nn.Module):
    """Weighs the channels by the image's mean (Hu et al. 2018, arXiv 1709.01507).

    With a hard sigmoid, as in MobileNetV3.
    """

    squeezed: int
    options: LayerOptions

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] → [N, H, W, C]."""
        options = self.options
        y = x.mean(axis=(1, 2), keepdims=True)
        y = Conv(self.squeezed, use_bias=True, act="relu", options=options, name="reduce")(y)
        excite = Conv(
            x.shape[-1], use_bias=True, act="hard_sigmoid", options=options, name="expand"
        )
        return x * excite(y)


def round_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of the divisor, but at least 90 % of the channels asked for."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor
