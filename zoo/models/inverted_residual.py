"""What the mobile families share: the inverted residual block, and how channels are rounded."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from zoo.models.layers import Conv, ConvNorm, drop_path


class InvertedResidual(nn.Module):
    """Expands the channels, filters each, and projects them (Sandler et al. 2018, 1801.04381).

    Modules: expand, depthwise, squeeze_excite/{reduce, expand}, project.

    Args:
      layers: the model's, see `Model.layers`.
      act: the activation behind the expansion and the filters.
      kernel, stride, dilation: of the depthwise convolution.
      expanded: the channels inside; as many as come in means no expansion.
      channels: the channels that go out.
      squeezed: the channels inside squeeze-and-excitation; 0 for none.
      skip: adds the input, if it has as many channels.
      drop_path_rate: stochastic depth.
    """

    layers: Callable[..., Callable[..., Any]]
    act: str
    kernel: int
    stride: int
    dilation: int
    expanded: int
    channels: int
    skip: bool
    squeezed: int = 0
    drop_path_rate: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H / stride, W / stride, channels]."""
        conv = self.layers(ConvNorm, act=self.act)
        y, wide = x, self.expanded
        if wide != x.shape[-1]:
            y = conv(wide, kept=False, name="expand")(y, train)
        window = {"dilation": self.dilation, "groups": wide, "kept": self.squeezed > 0}
        y = conv(wide, self.kernel, self.stride, **window, name="depthwise")(y, train)
        if self.squeezed:
            y = SqueezeExcite(self.layers, self.squeezed, name="squeeze_excite")(y)
        project = conv(self.channels, act="identity", name="project")
        if not self.skip or x.shape[-1] != self.channels:
            return project(y, train)
        if train and self.drop_path_rate:
            return x + drop_path(self, project(y, train), self.drop_path_rate, train)
        return project(y, train, x)


class SqueezeExcite(nn.Module):
    """Weighs the channels by what all of the image holds (Hu et al. 2018, arXiv 1709.01507).

    With a hard sigmoid, as in MobileNetV3.
    """

    layers: Callable[..., Callable[..., Any]]
    squeezed: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] → [N, H, W, C]."""
        conv = self.layers(Conv, use_bias=True)
        y = x.mean(axis=(1, 2), keepdims=True)
        y = conv(self.squeezed, act="relu", name="reduce")(y)
        return x * conv(x.shape[-1], act="hard_sigmoid", name="expand")(y)


def round_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of the divisor, but at least 90 % of the channels asked for."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor
