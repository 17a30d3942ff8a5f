"""Bias, residual and activation: one kernel each way, the bias's gradient summed on the way."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from zoo_kernels.bias_act import Static
from zoo_kernels.core import activations
from zoo_kernels.core.pallas import rows
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


def _forward(static: Static, images: int, *arrays: Any) -> list[jax.Array]:
    return _sweep(static, images, *arrays, saving=False)


def _forward_saving(static: Static, images: int, *arrays: Any) -> list[jax.Array]:
    return _sweep(static, images, *arrays, saving=True)


def _sweep(
    static: Static, images: int, x: Any, scale: Any, bias: Any, residual: Any, *, saving: bool
) -> list[jax.Array]:
    """→ y, or y and z."""

    def each(x: Any, residual: Any, scale: Any, bias: Any) -> Any:
        z = x + bias if scale is None else x * scale + bias
        z = z if residual is None else z + residual
        y = activations.ACTIVATIONS[static.act].value(z)
        return [y, z] if saving else [y], []

    return rows.sweep("bias_act", each, images, [x, residual], [scale, bias], results=1 + saving)


def _y_and_z(static: Static, lanes: int, x: Any, *_: Any) -> list[Output]:
    return [Output(x.shape, x.dtype)] * 2


def _both(static: Static, results: Sequence[jax.Array], *_: Any) -> tuple[jax.Array, ...]:
    return tuple(results)


def _written(static: Static, scale: Any) -> tuple[bool, bool]:
    """Whether the backward kernel writes dz (not if it is dy, or nobody's gradient), and dx."""
    scaled = scale is not None
    return static.act != "identity" and (static.residual or not scaled), scaled


def _reads(static: Static, kept: Any, x: Any, scale: Any, dy: Any) -> list[Any]:
    return [dy, None if static.act == "identity" else kept, None if scale is None else x]


def _backward(
    static: Static, images: int, kept: Any, x: Any, scale: Any, bias: Any, dy: Any
) -> list[jax.Array]:
    """→ dz and dx as `_written`, the shares of dbias and of dscale."""
    written = _written(static, scale)

    def each(dy: Any, kept: Any, x: Any, scale: Any) -> Any:
        dz = dy if kept is None else dy * activations.slope(static.act, kept)
        scaled, terms = (None, [dz]) if scale is None else (dz * scale, [dz, dz * x])
        return [d for d, wanted in zip((dz, scaled), written, strict=True) if wanted], terms

    reads = _reads(static, kept, x, scale, dy)
    sums = 1 if scale is None else 2
    return rows.sweep("bias_act_backward", each, images, reads, [scale], sum(written), sums)


def _gradients(
    static: Static, lanes: int, kept: Any, x: Any, scale: Any, bias: Any, dy: Any
) -> list[Output]:
    reads = sum(array is not None for array in _reads(static, kept, x, scale, dy))
    like_dy = [Output(dy.shape, dy.dtype)] * sum(_written(static, scale))
    return [*like_dy, *rows.shares(dy, lanes, reads, 1 if scale is None else 2)]


def _finished(
    static: Static,
    results: Sequence[jax.Array],
    kept: Any,
    x: Any,
    scale: Any,
    bias: Any,
    dy: Any,
) -> tuple[jax.Array, jax.Array | None, jax.Array, jax.Array | None]:
    left = iter(results)
    dz, dx = (next(left) if wanted else None for wanted in _written(static, scale))
    dz = dy if dz is None else dz
    dbias = next(left).sum((0, 1)).astype(bias.dtype)
    dscale = None if scale is None else next(left).sum((0, 1)).astype(scale.dtype)
    return dz if dx is None else dx, dscale, dbias, dz if static.residual else None
