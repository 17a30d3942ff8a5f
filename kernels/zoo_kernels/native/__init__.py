"""Convolutions for inference on a CPU in C++, with what surrounds them: bias, activation, residual.

XLA calls them through `jax.ffi`. They are compiled at first use, where a C++ compiler is; see
`build`. They compute in float32, have no gradients, and take weights that were packed before, so a
model is rewritten for them as a whole (`Trained.compile`). The operators `conv`, `depthwise_conv`
and `max_pool` run them one by one where `implementation="native"` asks for it.

Packed weights: output channels are split into panels of `TILE_VECTORS` vectors of `lanes()` values
(the last may have fewer vectors, and is padded with zeros); a panel is [kh · kw · in, its
channels]. Of a depthwise convolution a panel is one vector: [kh · kw, lanes].
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo_kernels.core.window import Window
from zoo_kernels.native import build
from zoo_kernels.native.build import unavailable

__all__ = ["ACTS", "conv", "depthwise_conv", "max_pool", "pack", "pad_channels", "unavailable"]

TILE_VECTORS = 2
# Activations by name, and their numbers in the C++.
ACTS = {"identity": 0, "relu": 1, "relu6": 2, "hard_swish": 3, "hard_sigmoid": 4}


def pad_channels(array: Any, xp: Any = np) -> Any:
    """[..., C] → [..., C'] with zeros behind, where C' is a multiple of the vectors' length."""
    missing = -array.shape[-1] % build.library().lanes
    return xp.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)])


def pack(kernel: Any, depthwise: bool = False, xp: Any = np) -> Any:
    """Packs a kernel [kh, kw, in, out], or [kh, kw, 1, C] of a depthwise convolution.

    Args:
      kernel: float32.
      depthwise: how it is used.
      xp: numpy, or jax.numpy for a traced kernel.
    """
    lanes = build.library().lanes
    padded = pad_channels(kernel, xp)
    rows = padded.reshape(-1, padded.shape[-1])
    width = lanes if depthwise else lanes * TILE_VECTORS
    panels = [rows[:, at : at + width].reshape(-1) for at in range(0, rows.shape[1], width)]
    return xp.concatenate(panels)


def conv(
    inputs: Sequence[jax.Array],
    weights: jax.Array,
    bias: jax.Array,
    *,
    outputs: int,
    window: Window,
    act: str = "identity",
    residual: jax.Array | None = None,
    norm: tuple[jax.Array, jax.Array] | None = None,
    cell: int = 1,
) -> jax.Array:
    """act(convolution + bias + residual), not grouped.

    Args:
      inputs: arrays [N, H, W, Ci], float32, which are read as if concatenated.
      weights: packed.
      bias: [outputs], padded by `pad_channels`.
      outputs: the number of output channels.
      window: of the convolution; its channels are those of all inputs.
      act: a name of `ACTS`.
      residual: [N, H', W', outputs].
      norm: (scale, offset), both [C]: the input is relu(x · scale + offset).
      cell: what is read are means of cells of that height and width.

    Raises:
      ValueError: several inputs, `norm` or `cell` with a kernel that is larger, padded or strided.
    """
    plain = window.kernel == window.strides == (1, 1) and not any(map(any, window.padding))
    if (len(inputs) > 1 or norm or cell > 1) and not plain:
        raise ValueError(f"several inputs, norm and cell take a plain 1x1 kernel, got {window}")
    none = jnp.zeros(0, jnp.float32)
    rows, columns = (n // cell for n in window.out)
    shape = (inputs[0].shape[0], rows, columns, outputs)
    scale, offset = norm or (none, none)
    return _call("zoo_conv", shape, act=np.int64(ACTS[act]), cell=np.int64(cell), window=window)(
        weights, bias, none if residual is None else residual, scale, offset, *inputs
    )


def depthwise_conv(
    x: jax.Array,
    weights: jax.Array,
    bias: jax.Array,
    *,
    window: Window,
    act: str = "identity",
    expansion: tuple[jax.Array, jax.Array, str] | None = None,
) -> jax.Array:
    """act(depthwise convolution + bias), one kernel a channel.

    Args:
      x: [N, H, W, C], float32.
      weights: packed as those of a depthwise convolution.
      bias: [C], padded by `pad_channels`.
      window: of the depthwise convolution.
      act: a name of `ACTS`.
      expansion: (packed weights, padded bias, act) of a 1x1 convolution of x, whose output is what
        is convolved. It is never written to memory as a whole.
    """
    none = jnp.zeros(0, jnp.float32)
    packed, expansion_bias, expansion_act = expansion or (none, none, "identity")
    shape = (x.shape[0], *window.out, window.channels)
    return _call(
        "zoo_depthwise_conv",
        shape,
        act=np.int64(ACTS[act]),
        expansion_act=np.int64(ACTS[expansion_act]),
        window=window,
    )(x, weights, bias, packed, expansion_bias)


def max_pool(x: jax.Array, window: Window) -> jax.Array:
    """The largest value of each window of x [N, H, W, C], float32."""
    return _call("zoo_max_pool", (x.shape[0], *window.out, x.shape[3]), window=window)(x)


def _call(target: str, shape: tuple[int, ...], *, window: Window, **attributes: Any) -> Any:
    """The call of a C++ function; [N, H', W', C'] is the shape of its result."""
    build.library()
    (top, _), (left, _) = window.padding
    # Where there is one output, its stride matters not, and may be larger than any image.
    strides = (s if n > 1 else 1 for s, n in zip(window.strides, shape[1:3], strict=True))
    numbers = [*window.kernel, *strides, top, left, *window.dilation]
    function = jax.ffi.ffi_call(
        target, jax.ShapeDtypeStruct(shape, jnp.float32), vmap_method="sequential"
    )

    def call(*arrays: jax.Array) -> jax.Array:
        y: jax.Array = function(*arrays, window=np.asarray(numbers, np.int64), **attributes)
        return y

    return call
