"""Depthwise convolution's passes, of the kernels in `triton_forward` and `triton_weight_grad`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from zoo_kernels.core.linear_vjp import FORWARD, INPUT_GRAD, WEIGHT_GRAD, ConvSpec
from zoo_kernels.core.pallas import row_reductions, tiles
from zoo_kernels.core.pallas.launch import Output, TritonPass, first_result
from zoo_kernels.depthwise_conv import DepthwiseBiasActSpec, stencil, xla
from zoo_kernels.depthwise_conv.triton_forward import Operation, choose_tiling, launch_convolution
from zoo_kernels.depthwise_conv.triton_weight_grad import (
    WeightGradTiling,
    choose_weight_grad_tiling,
    launch_weight_grad,
)

# All columns of a kernel are unrolled, and more would take long to compile.
MAX_KERNEL_COLUMNS = 64


def passes(interpret: bool = False) -> dict[str, Callable[..., Any]]:
    """The operator's passes by name."""
    return {
        FORWARD: TritonPass(
            _forward, _y_output, _first_is_batched, first_result, interpret, _forward_by_xla
        ),
        INPUT_GRAD: TritonPass(
            _input_grad, _dx_output, _first_is_batched, first_result, interpret, _input_grad_by_xla
        ),
        WEIGHT_GRAD: TritonPass(
            _weight_grad, _partial_sums, _all_are_batched, _add_partial_sums, interpret
        ),
    }


def fused_passes(interpret: bool = False) -> dict[str, Callable[..., Any]]:
    """The passes of the operator with bias and activation."""
    fused = TritonPass(_fused, _y_output, _first_is_batched, first_result, interpret, _fused_by_xla)
    return {"forward": fused}


def unsupported(spec: ConvSpec | DepthwiseBiasActSpec, *arrays: jax.Array) -> str | None:
    """The reason why these kernels cannot do a convolution, or None."""
    if spec.window.kernel[1] > MAX_KERNEL_COLUMNS:
        return f"takes kernels of at most {MAX_KERNEL_COLUMNS} columns, got {spec.window.kernel[1]}"
    return tiles.unsupported(*arrays)


def unsupported_fused(
    spec: DepthwiseBiasActSpec, x: jax.Array, w: jax.Array, bias: jax.Array
) -> str | None:
    """The same for a convolution with bias and activation."""
    return unsupported(spec, x, w) or row_reductions.unsupported(spec, bias)


def _forward(spec: ConvSpec, shard_size: int, x: jax.Array, w: jax.Array) -> list[jax.Array]:
    tiling = choose_tiling(stencil.forward_axis, spec.window, x.dtype)
    operation = Operation(spec.window.kernel, x.shape[3], w.shape[3])
    return [launch_convolution(tiling, operation, "depthwise", x, w)]


def _fused(
    spec: DepthwiseBiasActSpec, shard_size: int, x: jax.Array, w: jax.Array, bias: jax.Array
) -> list[jax.Array]:
    tiling = choose_tiling(stencil.forward_axis, spec.window, x.dtype)
    operation = Operation(spec.window.kernel, x.shape[3], w.shape[3], spec.act)
    return [launch_convolution(tiling, operation, f"depthwise_bias_{spec.act}", x, w, bias)]


def _input_grad(spec: ConvSpec, shard_size: int, dy: jax.Array, w: jax.Array) -> list[jax.Array]:
    window = spec.window
    tiling = choose_tiling(stencil.input_grad_axis, window, dy.dtype)
    operation = Operation(window.kernel, dy.shape[3], window.channels)
    return [launch_convolution(tiling, operation, "depthwise_input_grad", dy, w)]


def _forward_by_xla(spec: ConvSpec, *arrays: jax.Array) -> list[jax.Array]:
    return [xla.CONV.passes[FORWARD](spec, *arrays)]


def _input_grad_by_xla(spec: ConvSpec, *arrays: jax.Array) -> list[jax.Array]:
    return [xla.CONV.passes[INPUT_GRAD](spec, *arrays)]


def _fused_by_xla(spec: DepthwiseBiasActSpec, *arrays: jax.Array) -> list[jax.Array]:
    return [xla.CONV_BIAS_ACT.passes[FORWARD](spec, *arrays)]


def _weight_grad(spec: ConvSpec, shard_size: int, x: jax.Array, dy: jax.Array) -> list[jax.Array]:
    tiling = _weight_grad_tiling(spec, shard_size, x, dy)
    return launch_weight_grad(tiling, spec.window, shard_size, x, dy)


def _weight_grad_tiling(
    spec: ConvSpec, shard_size: int, x: jax.Array, dy: jax.Array
) -> WeightGradTiling:
    return choose_weight_grad_tiling(spec.window, x.dtype, dy.shape[3], shard_size)


def _y_output(
    spec: ConvSpec | DepthwiseBiasActSpec, shards: int, x: jax.Array, w: jax.Array, *_: Any
) -> list[Output]:
    return [Output((x.shape[0], *spec.window.out, w.shape[3]), x.dtype)]


def _dx_output(spec: ConvSpec, shards: int, dy: jax.Array, w: jax.Array) -> list[Output]:
    return [Output((dy.shape[0], *spec.window.size, spec.window.channels), dy.dtype)]


def _partial_sums(spec: ConvSpec, shards: int, x: jax.Array, dy: jax.Array) -> list[Output]:
    tiling = _weight_grad_tiling(spec, x.shape[0] // shards, x, dy)
    return [tiling.partial_sums(shards, spec.window, dy.shape[3])]


def _first_is_batched(spec: Any, *arrays: jax.Array) -> list[bool]:
    return [i == 0 for i in range(len(arrays))]


def _all_are_batched(spec: Any, *arrays: jax.Array) -> list[bool]:
    return [True] * len(arrays)


def _add_partial_sums(
    spec: ConvSpec, results: Sequence[jax.Array], x: jax.Array, dy: jax.Array
) -> jax.Array:
    """[shards, programs, kh, kw, C] → dw."""
    return results[0].sum((0, 1))[:, :, None].astype(x.dtype)
