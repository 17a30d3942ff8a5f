"""Bias, residual and activation: one kernel each way; the backward one sums the bias's gradient."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from zoo_kernels.bias_act import BiasActSpec
from zoo_kernels.core import activations
from zoo_kernels.core.pallas import row_reductions
from zoo_kernels.core.pallas.launch import Output, TritonPass, first_result
from zoo_kernels.core.pallas.row_reductions import is_batched, launch_row_kernel

unsupported = row_reductions.unsupported


def defers(pass_name: str, spec: BiasActSpec, *arrays: Any) -> str:
    """The reason why XLA's formulation is the better default for a pass.

    Forward and backward together, the kernels were faster than XLA's on an H100 and an H200 at
    10x224x224x100 with ReLU, and slower or the same in the other rows. In whole models XLA joins
    the backward pass with the gradient of a max pool behind it: docs/gpu.md.
    """
    if pass_name == "backward":
        return "would be a pass over memory of its own; XLA fuses it with the gradients around it"
    return "would be a pass over memory of its own; XLA fuses it with the operations around it"


def passes(interpret: bool = False) -> dict[str, Callable[..., Any]]:
    """The operator's passes by name."""
    y = row_reductions.output_like_x
    forward = TritonPass(_forward, y, is_batched, first_result, interpret)
    return {
        "forward": forward,
        "forward_saving_y": forward,
        "forward_saving_z": TritonPass(
            _forward_saving, _y_and_z_outputs, is_batched, _y_and_z, interpret
        ),
        "backward": TritonPass(
            _backward, _backward_outputs, is_batched, _finish_backward, interpret
        ),
    }


def _forward(spec: BiasActSpec, shard_size: int, *arrays: Any) -> list[jax.Array]:
    return _launch_forward(spec, shard_size, *arrays, save_z=False)


def _forward_saving(spec: BiasActSpec, shard_size: int, *arrays: Any) -> list[jax.Array]:
    return _launch_forward(spec, shard_size, *arrays, save_z=True)


def _launch_forward(
    spec: BiasActSpec,
    shard_size: int,
    x: Any,
    scale: Any,
    bias: Any,
    residual: Any,
    *,
    save_z: bool,
) -> list[jax.Array]:
    """→ y, or y and z."""

    def function(x: Any, residual: Any, scale: Any, bias: Any) -> Any:
        z = x + bias if scale is None else x * scale + bias
        z = z if residual is None else z + residual
        y = activations.ACTIVATIONS[spec.act].value(z)
        return [y, z] if save_z else [y], []

    tensors, vectors = [x, residual], [scale, bias]
    return launch_row_kernel("bias_act", function, shard_size, tensors, vectors, outputs=1 + save_z)


def _y_and_z_outputs(spec: BiasActSpec, shards: int, x: Any, *_: Any) -> list[Output]:
    return [Output(x.shape, x.dtype)] * 2


def _y_and_z(spec: BiasActSpec, results: Sequence[jax.Array], *_: Any) -> tuple[jax.Array, ...]:
    return tuple(results)


def _writes_dz_dx(spec: BiasActSpec, scale: Any) -> tuple[bool, bool]:
    """Whether the backward kernel writes dz, and whether dx.

    Without an activation dz is dy, which is there already. With a scale and without a residual, dz
    is not the gradient of any operand.
    """
    scaled = scale is not None
    return spec.act != "identity" and (spec.residual or not scaled), scaled


def _backward_tensors(spec: BiasActSpec, saved: Any, x: Any, scale: Any, dy: Any) -> list[Any]:
    """What the backward kernel reads: dy, y or z, and x; None for what it does not need."""
    return [dy, None if spec.act == "identity" else saved, None if scale is None else x]


def _backward(
    spec: BiasActSpec, shard_size: int, saved: Any, x: Any, scale: Any, bias: Any, dy: Any
) -> list[jax.Array]:
    """→ dz and dx as `_writes_dz_dx`, and the partial sums of dbias and of dscale."""
    writes = _writes_dz_dx(spec, scale)

    def function(dy: Any, saved: Any, x: Any, scale: Any) -> Any:
        dz = dy if saved is None else dy * activations.derivative(spec.act, saved)
        dx, terms = (None, [dz]) if scale is None else (dz * scale, [dz, dz * x])
        return [d for d, written in zip((dz, dx), writes, strict=True) if written], terms

    tensors = _backward_tensors(spec, saved, x, scale, dy)
    sums = 1 if scale is None else 2
    return launch_row_kernel(
        "bias_act_backward", function, shard_size, tensors, [scale], sum(writes), sums
    )


def _backward_outputs(
    spec: BiasActSpec, shards: int, saved: Any, x: Any, scale: Any, bias: Any, dy: Any
) -> list[Output]:
    tensors = _backward_tensors(spec, saved, x, scale, dy)
    reads = sum(array is not None for array in tensors)
    like_dy = [Output(dy.shape, dy.dtype)] * sum(_writes_dz_dx(spec, scale))
    sums = 1 if scale is None else 2
    return [*like_dy, *row_reductions.sum_outputs(dy, shards, reads, sums)]


def _finish_backward(
    spec: BiasActSpec,
    results: Sequence[jax.Array],
    saved: Any,
    x: Any,
    scale: Any,
    bias: Any,
    dy: Any,
) -> tuple[jax.Array, jax.Array | None, jax.Array, jax.Array | None]:
    """→ the gradients of x, scale, bias and residual."""
    remaining = iter(results)
    dz, dx = (next(remaining) if written else None for written in _writes_dz_dx(spec, scale))
    dz = dy if dz is None else dz
    dbias = next(remaining).sum((0, 1)).astype(bias.dtype)
    dscale = None if scale is None else next(remaining).sum((0, 1)).astype(scale.dtype)
    return dz if dx is None else dx, dscale, dbias, dz if spec.residual else None
