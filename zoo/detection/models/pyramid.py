"""Feature pyramids, and the layers that detectors share."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from zoo.models.initializers import ONES, ZEROS, Constant, Initializer, Normal
from zoo.models.layers import Conv, ConvNorm, LayerOptions, get_parameter
from zoo_kernels.core.activations import ACTIVATIONS


class FeaturePyramid(nn.Module):
    """Feature maps of equal channels, fine and coarse (Lin et al. 2017, arXiv 1612.03144).

    Each map is a 1x1 convolution of the backbone's, added to the next coarser one, and a 3x3
    convolution of the sum.

    Modules: inner1, output1 … for each map of the backbone; extra6, extra7.

    Args:
      channels: of all maps.
      extra: what is added behind the coarsest map: "pool", its every second pixel; "p5" or "c5",
        two maps by strided convolutions of the pyramid's last map, or of the backbone's.
      norm: whether batch norms follow the convolutions.
      options: of the layers.
    """

    channels: int
    extra: str
    norm: bool
    options: LayerOptions

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], train: bool = False) -> list[jax.Array]:
        """Maps [N, H, W, C], fine to coarse → maps [N, H, W, channels], and one or two more."""
        outputs: list[jax.Array] = []
        summed: jax.Array | None = None
        for number in range(len(maps), 0, -1):
            inner = self._conv(1, f"inner{number}")(maps[number - 1], train)
            summed = inner if summed is None else inner + _enlarge(summed, inner.shape[1:3])
            outputs.insert(0, self._conv(3, f"output{number}")(summed, train))
        if self.extra == "pool":
            return [*outputs, outputs[-1][:, ::2, ::2]]
        first = Conv(self.channels, 3, 2, use_bias=True, options=self.options, name="extra6")
        second = Conv(self.channels, 3, 2, use_bias=True, options=self.options, name="extra7")
        p6 = first(outputs[-1] if self.extra == "p5" else maps[-1])
        return [*outputs, p6, second(nn.relu(p6))]

    def _conv(self, size: int, name: str) -> ConvNorm:
        return ConvNorm(
            self.channels,
            size,
            act="identity",
            norm=self.norm,
            use_bias=not self.norm,
            options=self.options,
            name=name,
        )


def _enlarge(x: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """A map enlarged to another height and width, each pixel the nearest one at its left top."""
    for axis, n in enumerate(size, start=1):
        have = x.shape[axis]
        if n == 2 * have:
            x = jnp.repeat(x, 2, axis)
        elif n != have:
            x = jnp.take(x, jnp.arange(n) * have // n, axis)
    return x


class GroupNorm(nn.Module):
    """Normalises groups of 8 or so channels of each image (Wu and He 2018, arXiv 1803.08494).

    Parameters: scale, bias [C].
    """

    groups: int = 32
    act: str = "identity"
    options: LayerOptions = LayerOptions()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] → [N, H, W, C]."""
        channels = x.shape[-1:]
        scale = get_parameter(self, "scale", ONES, channels, x)
        bias = get_parameter(self, "bias", ZEROS, channels, x)
        grouped = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        grouped = grouped.reshape(*x.shape[:3], self.groups, -1)
        mean = grouped.mean((1, 2, 4), keepdims=True)
        var = jnp.square(grouped - mean).mean((1, 2, 4), keepdims=True)
        y = ((grouped - mean) * jax.lax.rsqrt(var + 1e-5)).reshape(x.shape)
        return ACTIVATIONS[self.act].value(y * scale + bias).astype(self.options.dtype)


class Tower(nn.Module):
    """3x3 convolutions in a row, named conv1, conv2 and so on, shared by all maps of a pyramid.

    Args:
      depth: how many.
      group_norm: whether group norms follow them.
      use_bias: whether the convolutions have a bias.
      options: of the layers.
    """

    depth: int
    group_norm: bool
    use_bias: bool
    options: LayerOptions

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array]) -> list[jax.Array]:
        """Maps [N, H, W, C] → maps [N, H, W, C]."""
        maps = list(maps)
        for number in range(1, self.depth + 1):
            conv = Conv(
                maps[0].shape[-1],
                3,
                use_bias=self.use_bias,
                act="identity" if self.group_norm else "relu",
                kernel_init=Normal(0.01),
                options=self.options,
                name=f"conv{number}",
            )
            maps = [conv(x) for x in maps]
            if self.group_norm:
                norm = GroupNorm(act="relu", options=self.options, name=f"group_norm{number}")
                maps = [norm(x) for x in maps]
        return maps


class Predictor(nn.Module):
    """A convolution that gives some numbers for each anchor of each place of all maps.

    Args:
      anchors: at each place.
      outputs: for each anchor.
      kernel_size: of the convolution.
      bias: its first values.
      options: of the layers.
    """

    anchors: int
    outputs: int
    options: LayerOptions
    kernel_size: int = 3
    bias: float = 0.0
    std: float = 0.01

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
        """Maps [N, H, W, C] → arrays [N, H, W, anchors, outputs], float32 or better."""
        bias: Initializer = Constant(self.bias)
        conv = Conv(
            self.anchors * self.outputs,
            self.kernel_size,
            use_bias=True,
            kernel_init=Normal(self.std),
            bias_init=bias,
            options=self.options,
            name="conv",
        )
        return tuple(split_anchors(conv(x), self.outputs) for x in maps)


def split_anchors(x: jax.Array, outputs: int) -> jax.Array:
    """[N, H, W, anchors · outputs] → [N, H, W, anchors, outputs], float32 or better."""
    return x.reshape(*x.shape[:3], -1, outputs).astype(jnp.promote_types(x.dtype, jnp.float32))
