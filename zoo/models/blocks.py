"""How the model families put layers together: chains, stages, stochastic depth."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from zoo.models.layers import LayerOptions, model_title
from zoo_kernels import RecomputableArray


def chain(
    layers: Sequence[nn.Module],
    x: jax.Array | RecomputableArray,
    train: bool,
    residual: jax.Array | nn.Module | None = None,
) -> Any:
    """Applies layers in turn, where each output is read by the next layer alone.

    In training, on a CPU, all outputs but the last are recomputed in the backward pass in place of
    being kept for it, unless the options' `recompute` is off. That takes a norm to recompute them
    from, and a convolution that does it for its gradients.

    Args:
      layers: such as ConvNorm; all but the last end with a norm, all but the first begin with a
        convolution.
      x: the first layer's input.
      train: as for the layers.
      residual: what the last layer adds before its activation; a module makes it of x.

    Raises:
      TypeError: a layer of another kind.
    """
    for layer, reader in itertools.pairwise(layers):
        if not getattr(layer, "ends_with_norm", False):
            raise TypeError(
                f"{_describe(layer)} ends with no batch norm, so that its output cannot be "
                f"recomputed; call it outside of the chain"
            )
        if not getattr(reader, "begins_with_conv", False):
            raise TypeError(
                f"{_describe(reader)} begins with no convolution, so that the output of "
                f"{_describe(layer)} cannot be recomputed for it; call it outside of the chain"
            )
    y = x
    for layer in layers[:-1]:
        y = layer(y, train, recompute=True)
    if isinstance(residual, nn.Module):
        residual = residual(x, train)
    return layers[-1](y, train, residual)


def _describe(layer: nn.Module) -> str:
    return f"{model_title(layer)}: {type(layer).__name__} {'/'.join(layer.path)!r}"


class Stage(nn.Module):
    """Blocks in a row, named block1, block2 and so on.

    Args:
      block: the blocks' class; made of a configuration and `options`, called with (x, train).
      configs: a configuration a block.
      options: of the layers.
      remat: computes the blocks' inner values again in the backward pass instead of keeping them.
    """

    block: Callable[..., nn.Module]
    configs: Sequence[Any]
    options: LayerOptions
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[N, H, W, C] → [N, H', W', C']."""
        for number, config in enumerate(self.configs, start=1):
            block = self.block(config, self.options, name=f"block{number}")
            x = apply_block(block, x, train, self.remat)
        return x


def apply_block(block: nn.Module, x: jax.Array, train: bool, remat: bool) -> jax.Array:
    """block(x, train); with `remat` its inner values are not kept for the backward pass."""

    def run(block: Any, x: jax.Array) -> jax.Array:
        return block(x, train)

    return nn.remat(run)(block, x) if remat else run(block, x)


def drop_path(module: nn.Module, x: jax.Array, rate: float, train: bool) -> jax.Array:
    """Drops whole examples of a residual branch in training (Huang et al. 2016, 1603.09382).

    The others are divided by 1 − rate, so that the mean stays. Draws from the rng "dropout".
    """
    if not train or rate == 0:
        return x
    shape = (x.shape[0],) + (1,) * (x.ndim - 1)
    mask = jax.random.bernoulli(module.make_rng("dropout"), 1 - rate, shape)
    return jnp.where(mask, x / (1 - rate), 0).astype(x.dtype)
