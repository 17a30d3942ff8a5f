"""Bias, residual and activation: one kernel each way, the bias's gradient summed on the way."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from zoo_kernels.bias_act import BiasActSpec
from zoo_kernels.core import activations
from zoo_kernels.core.pallas import row_reductions as rows
from zoo_kernels.core.pallas.launch import Lazy, Output

refuses = rows.refuses


def passes(interpret: bool = False) -> dict[str, Callable[..., Any]]:
    """The operator's passes by name."""
    forward = Lazy(_forward, rows.like_first, rows.batched, rows.only, interpret)
    return {
        "forward": forward,
        "forward_kept": forward,
        "forward_saving": Lazy(_forward_saving, _y_and_z, rows.batched, _both, interpret),
        "backward": Lazy(_backward, _gradients, rows.batched, _finished, interpret),
    }


def _forward(spec: BiasActSpec, images: int, *arrays: Any) -> list[jax.Array]:
    return _sweep(spec, images, *arrays, saving=False)


def _forward_saving(spec: BiasActSpec, images: int, *arrays: Any) -> list[jax.Array]:
    return _sweep(spec, images, *arrays, saving=True)


def _sweep(
    spec: BiasActSpec, images: int, x: Any, scale: Any, bias: Any, residual: Any, *, saving: bool
) -> list[jax.Array]:
    """→ y, or y and z."""

    def each(x: Any, residual: Any, scale: Any, bias: Any) -> Any:
        z = x + bias if scale is None else x * scale + bias
        z = z if residual is None else z + residual
        y = activations.ACTIVATIONS[spec.act].value(z)
        return [y, z] if saving else [y], []

    return rows.sweep("bias_act", each, images, [x, residual], [scale, bias], results=1 + saving)


def _y_and_z(spec: BiasActSpec, lanes: int, x: Any, *_: Any) -> list[Output]:
    return [Output(x.shape, x.dtype)] * 2


def _both(spec: BiasActSpec, results: Sequence[jax.Array], *_: Any) -> tuple[jax.Array, ...]:
    return tuple(results)


def _written(spec: BiasActSpec, scale: Any) -> tuple[bool, bool]:
    """Whether the backward kernel writes dz (not if it is dy, or nobody's gradient), and dx."""
    scaled = scale is not None
    return spec.act != "identity" and (spec.residual or not scaled), scaled


def _reads(spec: BiasActSpec, kept: Any, x: Any, scale: Any, dy: Any) -> list[Any]:
    return [dy, None if spec.act == "identity" else kept, None if scale is None else x]


def _backward(
    spec: BiasActSpec, images: int, kept: Any, x: Any, scale: Any, bias: Any, dy: Any
) -> list[jax.Array]:
    """→ dz and dx as `_written`, the shares of dbias and of dscale."""
    written = _written(spec, scale)

    def each(dy: Any, kept: Any, x: Any, scale: Any) -> Any:
        dz = dy if kept is None else dy * activations.slope(spec.act, kept)
        scaled, terms = (None, [dz]) if scale is None else (dz * scale, [dz, dz * x])
        return [d for d, wanted in zip((dz, scaled), written, strict=True) if wanted], terms

    reads = _reads(spec, kept, x, scale, dy)
    sums = 1 if scale is None else 2
    return rows.sweep("bias_act_backward", each, images, reads, [scale], sum(written), sums)


def _gradients(
    spec: BiasActSpec, lanes: int, kept: Any, x: Any, scale: Any, bias: Any, dy: Any
) -> list[Output]:
    reads = sum(array is not None for array in _reads(spec, kept, x, scale, dy))
    like_dy = [Output(dy.shape, dy.dtype)] * sum(_written(spec, scale))
    return [*like_dy, *rows.shares(dy, lanes, reads, 1 if scale is None else 2)]


def _finished(
    spec: BiasActSpec,
    results: Sequence[jax.Array],
    kept: Any,
    x: Any,
    scale: Any,
    bias: Any,
    dy: Any,
) -> tuple[jax.Array, jax.Array | None, jax.Array, jax.Array | None]:
    left = iter(results)
    dz, dx = (next(left) if wanted else None for wanted in _written(spec, scale))
    dz = dy if dz is None else dz
    dbias = next(left).sum((0, 1)).astype(bias.dtype)
    dscale = None if scale is None else next(left).sum((0, 1)).astype(scale.dtype)
    return dz if dx is None else dx, dscale, dbias, dz if spec.residual else None
