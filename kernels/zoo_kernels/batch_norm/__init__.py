"""Batch normalisation with activation and residual, by the batch's statistics or by given ones."""

import functools
import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from zoo_kernels.bias_act import check_arguments, scale_bias_act
from zoo_kernels.core import activations, dispatch, jax_compat
from zoo_kernels.core.dtypes import accumulation_dtype
from zoo_kernels.core.recompute import RecomputableArray
from zoo_kernels.core.sharding import match_sharding, match_varying

OP = "batch_norm"


class BatchNormSpec(NamedTuple):
    """What an implementation must know of a call, arrays aside."""

    eps: float
    act: str
    axis_name: tuple[str, ...] | None


def batch_norm(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    eps: float = 1e-5,
    act: str = "identity",
    residual: jax.Array | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    recompute: bool = False,
    implementation: dispatch.Requested = None,
) -> tuple[Any, jax.Array, jax.Array]:
    """Normalises each channel by its statistics over the batch (arXiv 1502.03167).

    y = act((x − mean) / √(var + eps) · scale + bias + residual)

    Args:
      x: [..., C], floating point.
      scale, bias: [C].
      eps: added to the variance, at least 0.
      act: an activation's name, as for `bias_act`.
      residual: like x, added before the activation.
      axis_name: mapped axis or axes, such as `vmap`'s, to take the statistics over as well.
      recompute: returns y as a RecomputableArray, for a convolution that is the only one to read
        it. Takes no residual.
      implementation: None chooses by platform, a name is strict, a sequence is tried in order.

    Returns:
      y like x, and the batch's mean and biased variance, [C], in float32 (float64 for float64).
      The variance comes from deviations from the mean, so a mean far from zero does no harm.

    Raises:
      ValueError: arguments that do not fit each other.
      NotImplementedError: the implementation asked for cannot do the call.
    """
    _check_eps(OP, eps)
    x, scale, bias, residual = check_arguments(OP, x, act, residual, scale=scale, bias=bias)
    if x.ndim < 2:
        raise ValueError(f"{OP}: x must be [..., C] with something to average, got {x.shape}")
    names = () if axis_name is None else (axis_name,) if isinstance(axis_name, str) else axis_name
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{OP}: axis_name must be a name or names of axes, got {axis_name!r}")
    axis_name = tuple(names) or None
    spec = BatchNormSpec(float(eps), act, axis_name)
    if recompute and residual is not None:
        raise ValueError(f"{OP}: recompute takes no residual, got one of {residual.shape}")
    x, scale, bias, residual = match_varying(x, scale, bias, residual)
    requested, call = dispatch.resolve_call(OP, implementation, _batch_norm)
    y, mean, var = call(spec, requested, x, scale, bias, residual)
    if not recompute:
        return y, mean, var
    function = functools.partial(apply_statistics, spec)
    return RecomputableArray(y, function, (x, scale, bias, mean, var)), mean, var


def batch_norm_inference(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    *,
    eps: float = 1e-5,
    act: str = "identity",
    residual: jax.Array | None = None,
    implementation: dispatch.Requested = None,
) -> jax.Array:
    """Normalises each channel by statistics that are known, such as a model's running ones.

    y = act((x − mean) / √(var + eps) · scale + bias + residual), in one pass as
    act(x · factor + shift + residual): see `bias_act`.

    Args:
      x: [..., C], floating point.
      scale, bias, mean, var: [C].
      eps: added to the variance, at least 0.
      act: an activation's name, as for `bias_act`.
      residual: like x, added before the activation.
      implementation: of "bias_act"; None chooses by platform, a name is strict, a sequence is
        tried in order.

    Returns:
      An array like x, rounded once.

    Raises:
      ValueError: arguments that do not fit each other.
      NotImplementedError: the implementation asked for cannot do the call.
    """
    op = "batch_norm_inference"
    _check_eps(op, eps)
    vectors = {"scale": scale, "bias": bias, "mean": mean, "var": var}
    x, *arrays, residual = check_arguments(op, x, act, residual, **vectors)
    dtype = accumulation_dtype(x.dtype)
    scale, bias, mean, var = (array.astype(dtype) for array in arrays)
    factor = scale * jax.lax.rsqrt(var + eps)
    return scale_bias_act(op, x, factor, bias - mean * factor, act, residual, implementation)


def _check_eps(op: str, eps: float) -> None:
    if not isinstance(eps, numbers.Real) or not float(eps) >= 0:
        raise ValueError(f"{op}: eps must be a number of at least 0, got {eps!r}")


def apply_statistics(
    spec: BatchNormSpec,
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    residual: jax.Array | None = None,
) -> jax.Array:
    """Computes y, like x, from given statistics."""
    z = normalise(spec, x, mean, var) * scale + bias
    if residual is not None:
        z = z + residual.astype(z.dtype)
    return activations.ACTIVATIONS[spec.act].value(z).astype(x.dtype)


def normalise(spec: BatchNormSpec, x: jax.Array, mean: jax.Array, var: jax.Array) -> jax.Array:
    """(x − mean) / √(var + eps), in the statistics' dtype."""
    return (x.astype(mean.dtype) - mean) * jax.lax.rsqrt(var + spec.eps)


def average_over_devices(spec: BatchNormSpec, mean: jax.Array) -> jax.Array:
    """Averages each device's own mean over the devices of `axis_name`."""
    return mean if spec.axis_name is None else jax.lax.pmean(mean, spec.axis_name)


def count_devices(spec: BatchNormSpec) -> int:
    """How many devices of `axis_name` there are; 1 without."""
    return 1 if spec.axis_name is None else jax.lax.axis_size(spec.axis_name)


def sum_over_devices(spec: BatchNormSpec, x: jax.Array, cotangent: jax.Array) -> jax.Array:
    """Sums a cotangent of the statistics over the devices of `axis_name`.

    Not over axes that x varies over and the cotangent does not (inside `jax.shard_map`): there it
    is the sum already.
    """
    varying = jax_compat.varying_axes(x) - jax_compat.varying_axes(cotangent)
    axes = tuple(axis for axis in spec.axis_name or () if axis not in varying)
    return jax.lax.psum(cotangent, axes) if axes else cotangent


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _batch_norm(
    spec: BatchNormSpec,
    requested: dispatch.Requested,
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    residual: jax.Array | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    return dispatch.run_pass(OP, "forward", requested, spec, x, scale, bias, residual)


def _fwd(
    spec: BatchNormSpec,
    requested: dispatch.Requested,
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    residual: jax.Array | None,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], Any]:
    y, mean, var = _batch_norm(spec, requested, x, scale, bias, residual)
    return (y, mean, var), (x, scale, bias, residual, mean, var)


def _bwd(spec: BatchNormSpec, requested: dispatch.Requested, saved: Any, cotangents: Any) -> Any:
    gradients = dispatch.run_pass(OP, "backward", requested, spec, *saved, *cotangents)
    return jax.tree.map(match_sharding, gradients, saved[: len(gradients)])


_batch_norm.defvjp(_fwd, _bwd)
