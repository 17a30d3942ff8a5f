"""Depthwise convolution's passes; the kernels are in `convolve` and `weights`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from zoo_kernels.core.linear_vjp import FORWARD, INPUT_GRAD, WEIGHT_GRAD, Static
from zoo_kernels.core.pallas import rows, tile
from zoo_kernels.core.pallas.launch import LANES, Lazy, Output
from zoo_kernels.depthwise_conv import Fused, stencil
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


def refuses(static: Static | Fused, *arrays: jax.Array) -> str | None:
    """Why the call cannot be done, or None."""
    if static.window.kernel[1] > WIDEST:
        return f"takes kernels of at most {WIDEST} columns, got {static.window.kernel[1]}"
    return tile.refuses(*arrays)


def refuses_fused(static: Fused, x: jax.Array, w: jax.Array, bias: jax.Array) -> str | None:
    """The same with bias and activation."""
    return refuses(static, x, w) or rows.refuses(static, bias)


def _forward(static: Static, images: int, x: jax.Array, w: jax.Array) -> list[jax.Array]:
    made = plan(stencil.forward, static.window, x.dtype)
    job = Job(static.window.kernel, x.shape[3], w.shape[3])
    return [convolve(made, job, "depthwise", x, w)]


def _fused(
    static: Fused, images: int, x: jax.Array, w: jax.Array, bias: jax.Array
) -> list[jax.Array]:
    made = plan(stencil.forward, static.window, x.dtype)
    job = Job(static.window.kernel, x.shape[3], w.shape[3], static.act)
    return [convolve(made, job, f"depthwise_bias_{static.act}", x, w, bias)]


def _input_grad(static: Static, images: int, dy: jax.Array, w: jax.Array) -> list[jax.Array]:
    window = static.window
    made = plan(stencil.input_grad, window, dy.dtype)
    job = Job(window.kernel, dy.shape[3], window.channels)
    return [convolve(made, job, "depthwise_input_grad", dy, w)]


def _weight_grad(static: Static, images: int, x: jax.Array, dy: jax.Array) -> list[jax.Array]:
    window = static.window
    share = weights.share(window, x.dtype, dy.shape[3], images)
    return weights.gradient(share, window, images, x, dy)


def _like_y(static: Static | Fused, lanes: int, x: jax.Array, w: jax.Array, *_: Any) -> Any:
    return [Output((x.shape[0], *static.window.out, w.shape[3]), x.dtype)]


def _like_x(static: Static, lanes: int, dy: jax.Array, w: jax.Array) -> list[Output]:
    return [Output((dy.shape[0], *static.window.size, static.window.channels), dy.dtype)]


def _sums(static: Static, lanes: int, x: jax.Array, dy: jax.Array) -> list[Output]:
    window, channels = static.window, dy.shape[3]
    share = weights.share(window, x.dtype, channels, x.shape[0] // lanes)
    return [Output((lanes, *share.shape(window, channels)), jnp.float32, LANES)]


def _first_batched(static: Any, *arrays: jax.Array) -> list[bool]:
    return [i == 0 for i in range(len(arrays))]


def _all_batched(static: Any, *arrays: jax.Array) -> list[bool]:
    return [True] * len(arrays)


def _first(static: Any, results: Sequence[jax.Array], *_: jax.Array) -> jax.Array:
    return results[0]


def _summed(static: Static, results: Sequence[jax.Array], x: jax.Array, dy: jax.Array) -> jax.Array:
    """[lanes, programs, kh, kw, C] → dw."""
    return results[0].sum((0, 1))[:, :, None].astype(x.dtype)
