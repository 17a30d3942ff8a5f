"""GoogLeNet (Inception v1).

Szegedy et al. 2015, arXiv 1409.4842, table 1. As in torchvision, whose weights are the public ones:
batch normalisation after each convolution, pools whose last window may overhang the edge, 3x3
kernels where the paper has 5x5, and half the paper's dropout before the last layer.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from zoo.models.base import Model, register
from zoo.models.blocks import Stage, chain
from zoo.models.layers import (
    ConvNorm,
    Dense,
    LayerOptions,
    MaxPool,
    adaptive_average_pool,
    promote_to_float32,
)


class AuxiliaryConfig(NamedTuple):
    """An auxiliary classifier."""

    num_classes: int
    dropout_rate: float


class BlockConfig(NamedTuple):
    """An inception module: the channels of its branches, as in the paper's table.

    Args:
      branch1x1, branch3x3, branch5x5: of the branches with these kernels.
      reduce3x3, reduce5x5: of the 1x1 convolution before a larger kernel.
      pool_proj: of the 1x1 convolution behind the pool.
      auxiliary: whether an auxiliary classifier is attached; of which kind, the model sets.
    """

    branch1x1: int
    reduce3x3: int
    branch3x3: int
    reduce5x5: int
    branch5x5: int
    pool_proj: int
    auxiliary: bool | AuxiliaryConfig = False


class StageConfig(NamedTuple):
    """A stage: the size of the pool before it, and its inception modules."""

    pool: int
    blocks: tuple[BlockConfig, ...]


STAGES = (
    StageConfig(
        pool=3,
        blocks=(
            BlockConfig(64, 96, 128, 16, 32, 32),  # inception 3a
            BlockConfig(128, 128, 192, 32, 96, 64),
        ),
    ),
    StageConfig(
        pool=3,
        blocks=(
            BlockConfig(192, 96, 208, 16, 48, 64, auxiliary=True),  # 4a
            BlockConfig(160, 112, 224, 24, 64, 64),
            BlockConfig(128, 128, 256, 24, 64, 64),
            BlockConfig(112, 144, 288, 32, 64, 64, auxiliary=True),
            BlockConfig(256, 160, 320, 32, 128, 128),
        ),
    ),
    StageConfig(
        pool=2,
        blocks=(
            BlockConfig(256, 160, 320, 32, 128, 128),  # 5a
            BlockConfig(384, 192, 384, 48, 128, 128),
        ),
    ),
)


class Stem(nn.Module):
    """The convolutions before the first inception module."""

    options: LayerOptions

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H / 4, W / 4, 192]."""
        x = ConvNorm(64, 7, 2, options=self.options, name="conv1")(x, train)
        x = MaxPool(3, 2, padding=0, ceil=True, name="pool")(x)
        layers = [
            ConvNorm(64, 1, options=self.options, name="conv2"),
            ConvNorm(192, 3, options=self.options, name="conv3"),
        ]
        return chain(layers, x, train)


class Inception(nn.Module):
    """Four branches side by side (figure 2b)."""

    config: BlockConfig
    options: LayerOptions

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H, W, the branches' channels]."""
        config, options = self.config, self.options
        branch3x3 = [
            ConvNorm(config.reduce3x3, options=options, name="reduce3"),
            ConvNorm(config.branch3x3, 3, options=options, name="threes"),
        ]
        branch5x5 = [
            ConvNorm(config.reduce5x5, options=options, name="reduce5"),
            ConvNorm(config.branch5x5, 3, options=options, name="fives"),
        ]
        y3x3, y5x5 = chain(branch3x3, x, train), chain(branch5x5, x, train)
        y1x1 = ConvNorm(config.branch1x1, options=options, name="ones")(x, train)
        pooled = MaxPool(3, 1, name="pool")(x)
        pooled = ConvNorm(config.pool_proj, options=options, name="pooled")(pooled, train)
        y = jnp.concatenate([y1x1, y3x3, y5x5, pooled], axis=-1)
        if isinstance(config.auxiliary, AuxiliaryConfig) and (train or self.is_initializing()):
            logits = Auxiliary(config.auxiliary, options, name="auxiliary")(y, train)
            self.sow("intermediates", "logits", logits, init_fn=tuple, reduce_fn=lambda _, new: new)
        return y


class Auxiliary(nn.Module):
    """A classifier amid the network, which helps to train what is before it (section 5)."""

    config: AuxiliaryConfig
    options: LayerOptions

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → logits [N, num_classes]."""
        options = self.options
        x = ConvNorm(128, options=options, name="conv")(adaptive_average_pool(x, 4), train)
        x = Dense(1024, act="relu", options=options, name="fc")(x.reshape(x.shape[0], -1))
        x = nn.Dropout(self.config.dropout_rate, deterministic=not train, name="dropout")(x)
        return promote_to_float32(Dense(self.config.num_classes, options=options, name="head")(x))


@register()
class GoogLeNet(Model, kw_only=True):
    """GoogLeNet: 6.6 million parameters at 1,000 classes, and 6.4 million for auxiliary heads.

    Modules: stem/conv1 … conv3, pool3, stage3/block1/{ones, reduce3, threes, reduce5, fives,
    pooled} for inception 3a … stage5/block2, head; stage4/block1/auxiliary and
    stage4/block4/auxiliary.

    In training the auxiliary classifiers' logits are sown into the collection "intermediates"; the
    paper adds 0.3 times their losses:

        logits, new = model.apply(…, train=True, mutable=["batch_stats", "intermediates"])
        auxiliary = jax.tree.leaves(new["intermediates"])

    Args:
      stages: the table.
      auxiliary: whether there are auxiliary classifiers.
      dropout_rate, auxiliary_dropout_rate: before the last layer of the classifiers.
    """

    architecture: ClassVar[tuple[str, ...]] = ("stages",)
    input_conv: ClassVar[str] = "stem/conv1/conv"
    backbone_options: ClassVar[Mapping[str, Any]] = {"auxiliary": False}

    stages: tuple[StageConfig, ...] = STAGES
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
        self.check_images(x, train)
        options = self.layer_options
        auxiliary = AuxiliaryConfig(self.num_classes, self.auxiliary_dropout_rate)
        x = Stem(options, name="stem")(x, train)
        for number, (pool, blocks) in enumerate(self.stages, start=3):
            x = MaxPool(pool, 2, padding=0, ceil=True, name=f"pool{number}")(x)
            configs = [
                config._replace(auxiliary=config.auxiliary and self.auxiliary and auxiliary)
                for config in blocks
            ]
            x = Stage(Inception, configs, options, self.remat, name=f"stage{number}")(x, train)
        return self.logits(x, train, self.dropout_rate)
