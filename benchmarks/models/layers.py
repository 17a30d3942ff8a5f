"""Single layers that `benchmarks.models --layers` times: those of the predecessors' suite.

3x3 and 5x5 convolutions at strides 1 and 2, a dense layer, batch normalisation and pools, as in
DeepLearningBenchmarks, which timed Flux beside PyTorch.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from zoo.models.layers import BatchNorm, Conv, Dense, LayerOptions, MaxPool


class Layer(NamedTuple):
    """A layer, in both frameworks.

    Args:
      shape: of an input without the batch, [H, W, C] or [C].
      ours: makes the zoo's, by dtype.
      torch: makes PyTorch's, from `torch.nn`.
    """

    shape: tuple[int, ...]
    ours: Callable[[Any], nn.Module]
    torch: Callable[[Any], Any]

    def costs(self, batch: int) -> tuple[float, int, int]:
        """(operations, elements of input and output, parameters) of a forward pass."""
        x = jax.ShapeDtypeStruct((batch, *self.shape), "float32")
        y, variables = jax.eval_shape(self.ours("float32").init_with_output, jax.random.key(0), x)
        params = variables.get("params", {})
        taps = math.prod(params["kernel"].shape[:-1]) if "kernel" in params else 0
        return 2.0 * taps * y.size, x.size + y.size, sum(a.size for a in params.values())


class Pool(nn.Module):
    """A function of images as a module without parameters."""

    pool: Callable[[jax.Array], jax.Array]

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] → what the function makes of it."""
        return self.pool(x)


def _conv(kernel: int, strides: int) -> Layer:
    return Layer(
        (56, 56, 64),
        lambda dtype: Conv(64, kernel, strides, use_bias=True, options=LayerOptions(dtype)),
        lambda torch: torch.Conv2d(64, 64, kernel, strides, kernel // 2),
    )


def _pool(pool: Callable[[jax.Array], jax.Array], torch: Callable[[Any], Any]) -> Layer:
    return Layer((56, 56, 64), lambda dtype: Pool(pool), torch)


LAYERS = {
    "Conv 3x3": _conv(3, 1),
    "Conv 3x3, stride 2": _conv(3, 2),
    "Conv 5x5": _conv(5, 1),
    "Conv 5x5, stride 2": _conv(5, 2),
    "Dense 1024→512": Layer(
        (1024,),
        lambda dtype: Dense(512, options=LayerOptions(dtype)),
        lambda torch: torch.Linear(1024, 512),
    ),
    "BatchNorm": Layer(
        (56, 56, 64),
        lambda dtype: BatchNorm(options=LayerOptions(dtype)),
        lambda torch: torch.BatchNorm2d(64),
    ),
    "Max pool 2x2": Layer(
        (56, 56, 64), lambda dtype: MaxPool(2, 2, padding=0), lambda torch: torch.MaxPool2d(2)
    ),
    "Mean pool 2x2": _pool(
        lambda x: nn.avg_pool(x, (2, 2), (2, 2)), lambda torch: torch.AvgPool2d(2)
    ),
    "Global mean pool": _pool(
        lambda x: x.mean((1, 2), keepdims=True), lambda torch: torch.AdaptiveAvgPool2d(1)
    ),
}
