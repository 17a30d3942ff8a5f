"""Batch normalisation: two kernels each way, which make 3 and 5 passes over memory.

A residual costs a read in each direction, and a write of its gradient, which the second backward
kernel then reads in place of dy and the residual. The second kernel of a pair begins where the
first one ended: that much is in the L2 cache still.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zoo_kernels.batch_norm import (
    BatchNormSpec,
    average_over_devices,
    count_devices,
    sum_over_devices,
)
from zoo_kernels.core import activations
from zoo_kernels.core.pallas import row_reductions, tiles
from zoo_kernels.core.pallas.launch import Output, TritonPass, first_result, launch_kernel
from zoo_kernels.core.pallas.row_reductions import is_batched, launch_row_kernel

unsupported = row_reductions.unsupported

# Rows, images times pixels, up to which launches take much of a pass's time. Of 12,544 rows that is
# measured, and of 200,704 and more not; nothing was measured between.
FEW_ROWS = 1 << 15


def defers(pass_name: str, spec: BatchNormSpec, *arrays: Any) -> str | None:
    """The reason why XLA's formulation is the better default for a pass, or None.

    On an H100 and an H200 the forward pass took 0.98 to 1.19 times XLA's time in float32 and for
    64x14x14x1024, and 0.91 to 1.05 times in bfloat16 otherwise; both passes together took 0.48 to
    1.05 times XLA's: benchmarks/results/h100-jax0.11.json, h200-jax0.11.json.
    """
    x = arrays[0]
    few = x.size // x.shape[-1] <= FEW_ROWS
    if pass_name == "forward" and (few or x.dtype.itemsize == 4):
        return "took up to 1.19 and 1.05 times XLA's time on an H200 and an H100"
    return None


def passes(interpret: bool = False) -> dict[str, Callable[..., Any]]:
    """The operator's passes by name."""
    like_x = row_reductions.output_like_x
    statistics = TritonPass(
        _statistics, _statistics_outputs, is_batched, _combine_statistics, interpret
    )
    normalise = TritonPass(_normalise, like_x, is_batched, first_result, interpret)
    reductions = TritonPass(
        _reductions, _reductions_outputs, is_batched, _finish_reductions, interpret
    )
    input_grad = TritonPass(_input_grad, like_x, is_batched, first_result, interpret)

    def forward(spec: BatchNormSpec, x: Any, scale: Any, bias: Any, residual: Any) -> Any:
        """→ y, mean, var."""
        local_mean, local_var = statistics(spec, x)
        mean = average_over_devices(spec, local_mean)
        var = average_over_devices(spec, local_var + jnp.square(local_mean - mean))
        factor = lax.rsqrt(var + spec.eps) * scale
        return normalise(spec, x, residual, mean, factor, bias), mean, var

    def backward(
        spec: BatchNormSpec,
        x: Any,
        scale: Any,
        bias: Any,
        residual: Any,
        mean: Any,
        var: Any,
        dy: Any,
        dmean: Any,
        dvar: Any,
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
        """→ the gradients of x, scale, bias and residual."""
        inv = lax.rsqrt(var + spec.eps)
        factor = inv * scale
        linear = spec.act == "identity"
        affine = (None, None, None) if linear else (residual, factor, bias)
        dz, dbias, products = reductions(spec, x, dy, mean, *affine)
        dscale = inv * products
        # dx = dz · factor + (x − mean) · deviation_factor + addend
        count = x.size // x.shape[-1]
        deviation_factor = -inv * factor * average_over_devices(spec, dscale / count)
        addend = -factor * average_over_devices(spec, dbias / count)
        count *= count_devices(spec)
        deviation_factor += 2 * sum_over_devices(spec, x, dvar) / count
        addend += sum_over_devices(spec, x, dmean) / count
        has_dz = linear or residual is not None  # else dz is computed from dy once more
        dx = input_grad(
            spec, x, dz, mean, factor, None if has_dz else bias, deviation_factor, addend
        )
        dresidual = None if residual is None else dz
        return dx, dscale.astype(scale.dtype), dbias.astype(bias.dtype), dresidual

    return {"forward": forward, "backward": backward}


def _statistics(spec: BatchNormSpec, shard_size: int, x: jax.Array) -> list[jax.Array]:
    """→ each program's first row, means relative to it, sums of squared deviations from the means.

    By Welford's method, for each element of a tile by itself, a step's tiles at a time. Values
    count from the first row, so that no digits are lost where the mean is far from zero.
    """
    split, shards = row_reductions.split_rows(shard_size, x, 1), x.shape[0] // shard_size
    tile = split.tile

    def body(x_ref: Any, shift_ref: Any, mean_ref: Any, squares_ref: Any) -> None:
        program = row_reductions.RowProgram(split, shards)
        shift = tiles.load(x_ref, *program.first_row)

        def step(i: Any, state: Any) -> Any:
            mean, squares = state
            offsets = program.offsets(i)
            values = [tiles.load(x_ref, *masked_offsets) for masked_offsets in offsets]
            deviations = [
                jnp.where(mask, value - shift - mean, 0.0)
                for value, (_, mask) in zip(values, offsets, strict=True)
            ]
            change = sum(deviations) / program.rows_seen(i)
            return mean + change, squares + sum(d * (d - change) for d in deviations)

        zeros = jnp.zeros((tile.rows, tile.channels), jnp.float32)
        mean, squares = tiles.loop(split.steps, step, (zeros, zeros))
        # Then the rows of the tile are combined.
        counts = program.rows_seen(split.steps - 1, at_least=0)
        column_mean = (counts * mean).sum(axis=0) / counts.sum(axis=0)
        deviation = mean - lax.broadcast_in_dim(column_mean, mean.shape, (1,))
        program.store_sums(shift_ref, shift.max(axis=0))  # which is the same in all rows
        program.store_sums(mean_ref, column_mean)
        program.store_sums(squares_ref, (squares + counts * deviation * deviation).sum(axis=0))

    outputs = [jax.ShapeDtypeStruct(o.shape, o.dtype) for o in _statistics_outputs(spec, shards, x)]
    name, grid = "batch_norm_statistics", split.grid(shards)
    return launch_kernel(body, name, grid, tile.warps, outputs, x)


def _statistics_outputs(spec: BatchNormSpec, shards: int, x: Any) -> list[Output]:
    return row_reductions.sum_outputs(x, shards, reads=1, sums=3)


def _combine_statistics(
    spec: BatchNormSpec, results: Sequence[jax.Array], x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """→ mean and variance, by Chan's formula."""
    shifts, means, squares = results
    shards, count = means.shape[0], x.size // x.shape[-1]
    counts = row_reductions.split_rows(x.shape[0] // shards, x, 1).row_counts()
    weights = (counts / count).astype(np.float32)  # of NumPy, which jax would widen with x64
    shift = shifts[:, 0].mean(0)
    deviations = shifts - shift + means
    deviation = (weights * deviations).sum((0, 1))
    var = (weights * jnp.square(deviations) + squares / count).sum((0, 1)) - jnp.square(deviation)
    return shift + deviation, jnp.maximum(var, 0)


def _normalise(
    spec: BatchNormSpec, shard_size: int, x: Any, residual: Any, mean: Any, factor: Any, bias: Any
) -> list[jax.Array]:
    def function(x: Any, residual: Any, *vectors: Any) -> Any:
        z = _affine(x, residual, *vectors)
        return [activations.ACTIVATIONS[spec.act].value(z)], []

    tensors, vectors = [x, residual], [mean, factor, bias]
    return launch_row_kernel(
        "batch_norm", function, shard_size, tensors, vectors, outputs=1, reverse=True
    )


def _affine(x: Any, residual: Any, mean: Any, factor: Any, bias: Any) -> jax.Array:
    z = (x - mean) * factor + bias
    return z if residual is None else z + residual


def _reductions(
    spec: BatchNormSpec,
    shard_size: int,
    x: Any,
    dy: Any,
    mean: Any,
    residual: Any,
    factor: Any,
    bias: Any,
) -> list[jax.Array]:
    """→ dz where there is a residual, and the partial sums of dz and of dz·(x − mean)."""

    def function(x: Any, dy: Any, residual: Any, mean: Any, factor: Any, bias: Any) -> Any:
        dz = dy
        if factor is not None:
            dz = dy * activations.derivative_at(spec.act, _affine(x, residual, mean, factor, bias))
        return [] if residual is None else [dz], [dz, dz * (x - mean)]

    tensors, vectors = [x, dy, residual], [mean, factor, bias]
    outputs = int(residual is not None)
    return launch_row_kernel(
        "batch_norm_reductions", function, shard_size, tensors, vectors, outputs, sums=2
    )


def _reductions_outputs(
    spec: BatchNormSpec, shards: int, x: Any, dy: Any, mean: Any, residual: Any, *_: Any
) -> list[Output]:
    if residual is None:
        return row_reductions.sum_outputs(x, shards, reads=2, sums=2)
    return [Output(x.shape, x.dtype), *row_reductions.sum_outputs(x, shards, reads=3, sums=2)]


def _finish_reductions(
    spec: BatchNormSpec, results: Sequence[jax.Array], x: Any, dy: jax.Array, *_: Any
) -> tuple[jax.Array, ...]:
    """→ dz, or dy where the next kernel computes dz from it, and both sums."""
    *dz, dz_sums, product_sums = results
    return (dz[0] if dz else dy, dz_sums.sum((0, 1)), product_sums.sum((0, 1)))


def _input_grad(
    spec: BatchNormSpec,
    shard_size: int,
    x: Any,
    dz: Any,
    mean: Any,
    factor: Any,
    bias: Any,
    deviation_factor: Any,
    addend: Any,
) -> list[jax.Array]:
    """→ dx; where there is a bias, `dz` is dy, and dz is computed from it."""

    def function(
        x: Any, dz: Any, mean: Any, factor: Any, bias: Any, deviation_factor: Any, addend: Any
    ) -> Any:
        if bias is not None:
            dz = dz * activations.derivative_at(spec.act, _affine(x, None, mean, factor, bias))
        return [dz * factor + (x - mean) * deviation_factor + addend], []

    tensors, vectors = [x, dz], [mean, factor, bias, deviation_factor, addend]
    return launch_row_kernel(
        "batch_norm_input_grad", function, shard_size, tensors, vectors, outputs=1, reverse=True
    )
