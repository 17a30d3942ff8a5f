"""Depthwise convolution's passes; the kernels are in `convolve` and `weights`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from zoo_kernels.core.linear_vjp import FORWARD, INPUT_GRAD, WEIGHT_GRAD, ConvSpec
from zoo_kernels.core.pallas import row_reductions as rows
from zoo_kernels.core.pallas import tiles as tile
from zoo_kernels.core.pallas.launch import LANES, Lazy, Output
from zoo_kernels.depthwise_conv import DepthwiseBiasActSpec, stencil
from zoo_kernels.depthwise_conv import triton_weight_grad as weights
from zoo_kernels.depthwise_conv.triton_forward import Job, convolve, plan

# All columns of a kernel are unrolled, and more would take long to compile.
WIDEST = 64


def passes(interpret: bool = False) -> dict[str, Callable[..., Any]]:
    """The operator's passes by name."""
    return {
        FORWARD: Lazy(_forward, _like_y, _first_batched, _first, interpret),
        INPUT_GRAD: Lazy(_input_grad, _like_x, _first_batched, _first, interpret),
        WEIGHT_GRAD: Lazy(_weight_grad, _sums, _all_batched, _summed, interpret),
    }


def fused_passes(interpret: bool = False) -> dict[str, Callable[..., Any]]:
    """The passes of the operator with bias and activation."""
    return {"forward": Lazy(_fused, _like_y, _first_batched, _first, interpret)}


def refuses(spec: ConvSpec | DepthwiseBiasActSpec, *arrays: jax.Array) -> str | None:
    """Why the call cannot be done, or None."""
    if spec.window.kernel[1] > WIDEST:
        return f"takes kernels of at most {WIDEST} columns, got {spec.window.kernel[1]}"
    return tile.refuses(*arrays)


def refuses_fused(
    spec: DepthwiseBiasActSpec, x: jax.Array, w: jax.Array, bias: jax.Array
) -> str | None:
    """The same with bias and activation."""
    return refuses(spec, x, w) or rows.refuses(spec, bias)


def _forward(spec: ConvSpec, images: int, x: jax.Array, w: jax.Array) -> list[jax.Array]:
    made = plan(stencil.forward, spec.window, x.dtype)
    job = Job(spec.window.kernel, x.shape[3], w.shape[3])
    return [convolve(made, job, "depthwise", x, w)]


def _fused(
    spec: DepthwiseBiasActSpec, images: int, x: jax.Array, w: jax.Array, bias: jax.Array
) -> list[jax.Array]:
    made = plan(stencil.forward, spec.window, x.dtype)
    job = Job(spec.window.kernel, x.shape[3], w.shape[3], spec.act)
    return [convolve(made, job, f"depthwise_bias_{spec.act}", x, w, bias)]


def _input_grad(spec: ConvSpec, images: int, dy: jax.Array, w: jax.Array) -> list[jax.Array]:
    window = spec.window
    made = plan(stencil.input_grad, window, dy.dtype)
    job = Job(window.kernel, dy.shape[3], window.channels)
    return [convolve(made, job, "depthwise_input_grad", dy, w)]


def _weight_grad(spec: ConvSpec, images: int, x: jax.Array, dy: jax.Array) -> list[jax.Array]:
    window = spec.window
    share = weights.share(window, x.dtype, dy.shape[3], images)
    return weights.gradient(share, window, images, x, dy)


def _like_y(
    spec: ConvSpec | DepthwiseBiasActSpec, lanes: int, x: jax.Array, w: jax.Array, *_: Any
) -> Any:
    return [Output((x.shape[0], *spec.window.out, w.shape[3]), x.dtype)]


def _like_x(spec: ConvSpec, lanes: int, dy: jax.Array, w: jax.Array) -> list[Output]:
    return [Output((dy.shape[0], *spec.window.size, spec.window.channels), dy.dtype)]


def _sums(spec: ConvSpec, lanes: int, x: jax.Array, dy: jax.Array) -> list[Output]:
    window, channels = spec.window, dy.shape[3]
    share = weights.share(window, x.dtype, channels, x.shape[0] // lanes)
    return [Output((lanes, *share.shape(window, channels)), jnp.float32, LANES)]


def _first_batched(spec: Any, *arrays: jax.Array) -> list[bool]:
    return [i == 0 for i in range(len(arrays))]


def _all_batched(spec: Any, *arrays: jax.Array) -> list[bool]:
    return [True] * len(arrays)


def _first(spec: Any, results: Sequence[jax.Array], *_: jax.Array) -> jax.Array:
    return results[0]


def _summed(spec: ConvSpec, results: Sequence[jax.Array], x: jax.Array, dy: jax.Array) -> jax.Array:
    """[lanes, programs, kh, kw, C] → dw."""
    return results[0].sum((0, 1))[:, :, None].astype(x.dtype)
