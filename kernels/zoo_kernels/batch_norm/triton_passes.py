"""Batch normalisation: two kernels each way, which make 3 and 5 passes over memory.

A residual costs a read in each direction, and a write of its gradient, which the second backward
kernel then reads in place of dy and the residual. The second kernel of a pair begins where the
first one ended: that much is in the L2 cache still.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from zoo_kernels.batch_norm import BatchNormSpec, average, devices, total
from zoo_kernels.core import activations
from zoo_kernels.core.pallas import launch
from zoo_kernels.core.pallas import row_reductions as rows
from zoo_kernels.core.pallas import tiles as tile
from zoo_kernels.core.pallas.launch import Lazy, Output

refuses = rows.refuses


def passes(interpret: bool = False) -> dict[str, Callable[..., Any]]:
    """The operator's passes by name."""
    statistics = Lazy(_statistics, _shares, rows.batched, _combined, interpret)
    normalise = Lazy(_normalise, rows.like_first, rows.batched, rows.only, interpret)
    reductions = Lazy(_reductions, _dz_and_shares, rows.batched, _sums, interpret)
    input_grad = Lazy(_input_grad, rows.like_first, rows.batched, rows.only, interpret)

    def forward(spec: BatchNormSpec, x: Any, scale: Any, bias: Any, residual: Any) -> Any:
        """→ y, mean, var."""
        own, var = statistics(spec, x)
        mean = average(spec, own)
        var = average(spec, var + jnp.square(own - mean))
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
        # dx = dz · factor + (x − mean) · slope + shift
        count = x.size // x.shape[-1]
        slope = -inv * factor * average(spec, dscale / count)
        shift = -factor * average(spec, dbias / count)
        count *= devices(spec)
        slope += 2 * total(spec, x, dvar) / count
        shift += total(spec, x, dmean) / count
        known = linear or residual is not None  # dz; else from dy once more
        dx = input_grad(spec, x, dz, mean, factor, None if known else bias, slope, shift)
        dresidual = None if residual is None else dz
        return dx, dscale.astype(scale.dtype), dbias.astype(bias.dtype), dresidual

    return {"forward": forward, "backward": backward}


def _statistics(spec: BatchNormSpec, images: int, x: jax.Array) -> list[jax.Array]:
    """→ each program's first row, means as seen from there, sums of squared deviations from them.

    By Welford's method, for each element of a tile by itself, a step's tiles at a time. Values
    count from the first row, so that no digits are lost where the mean is far from zero.
    """
    plan, lanes = rows.plan(images, x, 1), x.shape[0] // images

    def body(x_ref: Any, origin_ref: Any, mean_ref: Any, squares_ref: Any) -> None:
        program = rows.Program(plan, lanes)
        origin = tile.load(x_ref, *program.first_row)

        def step(i: Any, state: Any) -> Any:
            mean, squares = state
            places = program.places(i)
            values = [tile.load(x_ref, *place) for place in places]
            away = [
                jnp.where(mask, value - origin - mean, 0.0)
                for value, (_, mask) in zip(values, places, strict=True)
            ]
            move = sum(away) / program.seen(i)
            return mean + move, squares + sum(d * (d - move) for d in away)

        zeros = jnp.zeros(plan.tile[:2], jnp.float32)
        mean, squares = rows.loop(plan.steps, step, (zeros, zeros))
        seen = program.seen(plan.steps - 1, least=0)
        whole = (seen * mean).sum(axis=0) / seen.sum(axis=0)
        apart = mean - lax.broadcast_in_dim(whole, plan.tile[:2], (1,))
        program.store(origin_ref, origin.max(axis=0))  # which is the same in all rows
        program.store(mean_ref, whole)
        program.store(squares_ref, (squares + seen * apart * apart).sum(axis=0))

    out = [jax.ShapeDtypeStruct(o.shape, o.dtype) for o in _shares(spec, lanes, x)]
    name, grid = "batch_norm_statistics", rows.grid(plan, lanes)
    return launch.run(body, name, grid, plan.tile.warps, out, x)


def _shares(spec: BatchNormSpec, lanes: int, x: Any) -> list[Output]:
    return rows.shares(x, lanes, reads=1, sums=3)


def _combined(
    spec: BatchNormSpec, results: Sequence[jax.Array], x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """→ mean and variance, by Chan's formula."""
    origins, means, squares = results
    lanes, count = means.shape[0], x.size // x.shape[-1]
    weights = rows.plan(x.shape[0] // lanes, x, 1).counts() / count
    origin = origins[:, 0].mean(0)
    away = origins - origin + means
    move = (weights * away).sum((0, 1))
    var = (weights * jnp.square(away) + squares / count).sum((0, 1)) - jnp.square(move)
    return origin + move, jnp.maximum(var, 0)


def _normalise(
    spec: BatchNormSpec, images: int, x: Any, residual: Any, mean: Any, factor: Any, bias: Any
) -> list[jax.Array]:
    def each(x: Any, residual: Any, *vectors: Any) -> Any:
        z = _affine(x, residual, *vectors)
        return [activations.ACTIVATIONS[spec.act].value(z)], []

    streams, vectors = [x, residual], [mean, factor, bias]
    return rows.sweep("batch_norm", each, images, streams, vectors, 1, backwards=True)


def _affine(x: Any, residual: Any, mean: Any, factor: Any, bias: Any) -> jax.Array:
    z = (x - mean) * factor + bias
    return z if residual is None else z + residual


def _reductions(
    spec: BatchNormSpec,
    images: int,
    x: Any,
    dy: Any,
    mean: Any,
    residual: Any,
    factor: Any,
    bias: Any,
) -> list[jax.Array]:
    """→ dz where there is a residual, and the programs' shares of Σdz and Σdz·(x − mean)."""

    def each(x: Any, dy: Any, residual: Any, mean: Any, factor: Any, bias: Any) -> Any:
        dz = dy
        if factor is not None:
            dz = dy * activations.slope_at(spec.act, _affine(x, residual, mean, factor, bias))
        return [] if residual is None else [dz], [dz, dz * (x - mean)]

    streams, vectors = [x, dy, residual], [mean, factor, bias]
    results = residual is not None
    return rows.sweep("batch_norm_reductions", each, images, streams, vectors, results, 2)


def _dz_and_shares(
    spec: BatchNormSpec, lanes: int, x: Any, dy: Any, mean: Any, residual: Any, *_: Any
) -> list[Output]:
    if residual is None:
        return rows.shares(x, lanes, reads=2, sums=2)
    return [Output(x.shape, x.dtype), *rows.shares(x, lanes, reads=3, sums=2)]


def _sums(
    spec: BatchNormSpec, results: Sequence[jax.Array], x: Any, dy: jax.Array, *_: Any
) -> tuple[jax.Array, ...]:
    """→ dz, or dy where dz is to be had from it, and both sums."""
    *dz, one, other = results
    return (dz[0] if dz else dy, one.sum((0, 1)), other.sum((0, 1)))


def _input_grad(
    spec: BatchNormSpec,
    images: int,
    x: Any,
    dz: Any,
    mean: Any,
    factor: Any,
    bias: Any,
    slope: Any,
    shift: Any,
) -> list[jax.Array]:
    """→ dx, from dy in place of dz where there is a bias."""

    def each(x: Any, dz: Any, mean: Any, factor: Any, bias: Any, slope: Any, shift: Any) -> Any:
        if bias is not None:
            dz = dz * activations.slope_at(spec.act, _affine(x, None, mean, factor, bias))
        return [dz * factor + (x - mean) * slope + shift], []

    streams, vectors = [x, dz], [mean, factor, bias, slope, shift]
    return rows.sweep("batch_norm_input_grad", each, images, streams, vectors, 1, backwards=True)
