"""Xception.

Chollet 2017, arXiv 1610.02357, figure 5.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from zoo.models.base import Model, Step, register, steps
from zoo.models.layers import Conv, ConvNorm, Stage, max_pool
from zoo_kernels import RecomputableArray


class Row(NamedTuple):
    """A block: its separable convolutions' channels, and its stride."""

    channels: tuple[int, ...]
    stride: int


STEM = (32, 64)
# By stages: the entry flow's, of which the last goes on with the middle flow, and the exit flow's.
STAGES = (
    (Row((128, 128), 2),),
    (Row((256, 256), 2),),
    (Row((728, 728), 2), *[Row((728, 728, 728), 1)] * 8),
    (Row((728, 1024), 2),),
)
TAIL = (1536, 2048)


class Stem(nn.Module):
    """The two convolutions before the first block; they do not pad, as in the reference."""

    conv: Callable[..., ConvNorm]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, (H − 1) / 2 − 2, (W − 1) / 2 − 2, 64]."""
        x = self.conv(STEM[0], 3, 2, padding="VALID", kept=False, name="conv1")(x, train)
        return self.conv(STEM[1], 3, padding="VALID", name="conv2")(x, train)


class Separable(nn.Module):
    """A depthwise and a pointwise convolution with nothing between them (section 3.2)."""

    layers: Callable[..., Callable[..., Any]]
    channels: int
    act: str
    dilation: int
    kept: bool = True

    @nn.compact
    def __call__(
        self,
        x: jax.Array | RecomputableArray,
        train: bool = False,
        residual: jax.Array | None = None,
    ) -> Any:
        """[N, H, W, C] → [N, H, W, channels]; the residual is added before the activation."""
        c = x.shape[-1]
        filters = self.layers(Conv)(c, 3, dilation=self.dilation, groups=c, name="depthwise")
        mix = self.layers(ConvNorm, act=self.act, kept=self.kept)
        return mix(self.channels, name="pointwise")(filters(x), train, residual)


class Block(nn.Module):
    """Separable convolutions, a pool where there is a stride, and a shortcut."""

    layers: Callable[..., Callable[..., Any]]
    pool: Callable[..., jax.Array]
    row: Row
    step: Step
    relu: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H / stride, W / stride, channels]."""
        channels, (stride, dilation, _) = self.row.channels, self.step
        strided = self.row.stride > 1
        shortcut = x
        if strided:
            conv = self.layers(ConvNorm)(channels[-1], 1, stride, act="identity", name="shortcut")
            shortcut = conv(x, train)
        y = jax.nn.relu(x) if self.relu else x
        for number, c in enumerate(channels, start=1):
            last = number == len(channels)
            act = "identity" if last else "relu"
            separable = Separable(
                self.layers, c, act, dilation, kept=last, name=f"separable{number}"
            )
            y = separable(y, train, shortcut if last and not strided else None)
        if not strided:
            return y
        return self.pool(y, 3, stride, dilation=dilation) + shortcut


@register(input_size=299)
class Xception(Model):
    """Xception: 22.9 million parameters at 1,000 classes.

    Modules: stem/conv1, stem/conv2, stage1/block1/{separable1/{depthwise, pointwise}, shortcut} …
    stage4, separable1, separable2, head. Stages 1 to 3 are the entry flow, whose last goes on with
    the middle flow, stage 4 and what follows are the exit flow.

    Args:
      stages: the table; each stage begins with a stride.
      dropout_rate: before the classifier.
      output_stride: 32, or 16 or 8 with dilation in place of the last strides.
    """

    stages: tuple[tuple[Row, ...], ...] = STAGES
    dropout_rate: float = 0.5
    output_stride: int = 32

    @property
    def min_size(self) -> int:
        """The first two convolutions do not pad."""
        return 7

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [N, H, W, C] → logits [N, num_classes], float32 or better."""
        self.check(x, train)
        x = Stem(self.layers(ConvNorm), name="stem")(x, train)
        pool = functools.partial(max_pool, padding=self.padding)
        spent = steps([rows[0].stride for rows in self.stages], self.output_stride)
        for number, (rows, step) in enumerate(zip(self.stages, spent, strict=True), start=1):
            blocks = [
                functools.partial(Block, self.layers, pool, row, s, relu=number > 1)
                for row, s in zip(rows, step.of(len(rows)), strict=True)
            ]
            x = Stage(blocks, self.remat, name=f"stage{number}")(x, train)
        for number, channels in enumerate(TAIL, start=1):
            tail = functools.partial(Separable, self.layers, channels, "relu", spent[-1].after)
            x = tail(kept=number == len(TAIL), name=f"separable{number}")(x, train)
        return self.logits(x, train, self.dropout_rate)
