"""GoogLeNet (Inception v1).

Szegedy et al. 2015, arXiv 1409.4842, table 1. As in torchvision, whose weights are the public ones:
batch normalisation after each convolution, pools whose last window may overhang the edge, 3x3
kernels where the paper has 5x5, and half the paper's dropout before the last layer.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from zoo.models.base import Model, register, wide
from zoo.models.layers import ConvNorm, Dense, Stage, adaptive_mean, max_pool


class Row(NamedTuple):
    """The channels of an inception module's branches; "reduce" is the 1x1 before a larger kernel.

    An auxiliary classifier may be attached to the module.
    """

    ones: int
    reduce3: int
    threes: int
    reduce5: int
    fives: int
    pooled: int
    auxiliary: bool = False


class Inceptions(NamedTuple):
    """A stage: the size of the pool before it, and its inception modules."""

    pool: int
    rows: tuple[Row, ...]


# Stages 3, 4 and 5: inception 3a and 3b, 4a to 4e, 5a and 5b.
STAGES = (
    Inceptions(3, (Row(64, 96, 128, 16, 32, 32), Row(128, 128, 192, 32, 96, 64))),
    Inceptions(
        3,
        (
            Row(192, 96, 208, 16, 48, 64, auxiliary=True),
            Row(160, 112, 224, 24, 64, 64),
            Row(128, 128, 256, 24, 64, 64),
            Row(112, 144, 288, 32, 64, 64, auxiliary=True),
            Row(256, 160, 320, 32, 128, 128),
        ),
    ),
    Inceptions(2, (Row(256, 160, 320, 32, 128, 128), Row(384, 192, 384, 48, 128, 128))),
)


class Stem(nn.Module):
    """The convolutions before the first inception module."""

    conv: Callable[..., ConvNorm]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H / 4, W / 4, 192]."""
        x = max_pool(self.conv(64, 7, 2, name="conv1")(x, train), 3, 2, padding=0, ceil=True)
        x = self.conv(64, kept=False, name="conv2")(x, train)
        return self.conv(192, 3, name="conv3")(x, train)


class Inception(nn.Module):
    """Four branches side by side (figure 2b)."""

    conv: Callable[..., ConvNorm]
    row: Row
    auxiliary: Callable[..., "Auxiliary"] | None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H, W, the branches' channels]."""
        row, conv = self.row, self.conv
        reduce = functools.partial(conv, kept=False)
        threes = reduce(row.reduce3, name="reduce3")(x, train)
        fives = reduce(row.reduce5, name="reduce5")(x, train)
        branches = [
            conv(row.ones, name="ones")(x, train),
            conv(row.threes, 3, name="threes")(threes, train),
            conv(row.fives, 3, name="fives")(fives, train),
            conv(row.pooled, name="pooled")(max_pool(x, 3, 1), train),
        ]
        y = jnp.concatenate(branches, axis=-1)
        if self.auxiliary is not None and (train or self.is_initializing()):
            logits = self.auxiliary(self.conv, name="auxiliary")(y, train)
            self.sow("intermediates", "logits", logits, init_fn=tuple, reduce_fn=lambda _, new: new)
        return y


class Auxiliary(nn.Module):
    """A classifier amid the network, which helps to train what is before it (section 5)."""

    dense: Callable[..., Dense]
    num_classes: int
    dropout_rate: float
    conv: Callable[..., ConvNorm]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → logits [N, num_classes]."""
        x = self.conv(128, name="conv")(adaptive_mean(x, 4), train)
        x = self.dense(1024, act="relu", name="fc")(x.reshape(x.shape[0], -1))
        x = nn.Dropout(self.dropout_rate, deterministic=not train, name="dropout")(x)
        return wide(self.dense(self.num_classes, name="head")(x))


@register()
class GoogLeNet(Model):
    """GoogLeNet: 6.6 million parameters at 1,000 classes, and 6.4 million for auxiliary heads.

    Modules: stem/conv1 … conv3, stage3/block1/{ones, reduce3, threes, reduce5, fives, pooled} for
    inception 3a … stage5/block2, head; stage4/block1/auxiliary and stage4/block4/auxiliary.

    In training the auxiliary classifiers' logits are sown into the collection "intermediates"; the
    paper adds 0.3 times their losses:

        logits, new = model.apply(…, train=True, mutable=["batch_stats", "intermediates"])
        auxiliary = jax.tree.leaves(new["intermediates"])

    Args:
      stages: the table.
      auxiliary: whether there are auxiliary classifiers.
      dropout_rate, auxiliary_dropout_rate: before the last layer of the classifiers.
    """

    backbone_options: ClassVar[Mapping[str, Any]] = {"auxiliary": False}

    stages: tuple[Inceptions, ...] = STAGES
    auxiliary: bool = True
    dropout_rate: float = 0.2
    auxiliary_dropout_rate: float = 0.7
    norm_eps: float = 1e-3

    @property
    def min_size(self) -> int:
        """The first pool does not pad."""
        return 15

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [N, H, W, C] → logits [N, num_classes], float32 or better."""
        self.check(x, train)
        conv = self.layers(ConvNorm)
        classifier = functools.partial(
            Auxiliary, self.layers(Dense), self.num_classes, self.auxiliary_dropout_rate
        )
        x = Stem(conv, name="stem")(x, train)
        for number, (pool, rows) in enumerate(self.stages, start=3):
            x = max_pool(x, pool, 2, padding=0, ceil=True)
            blocks = [
                functools.partial(
                    Inception, conv, row, classifier if self.auxiliary and row.auxiliary else None
                )
                for row in rows
            ]
            x = Stage(blocks, self.remat, name=f"stage{number}")(x, train)
        return self.logits(x, train, self.dropout_rate)
