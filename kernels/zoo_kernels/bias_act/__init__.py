"""Bias, optional residual and activation as one operator."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zoo_kernels.core import activations, dispatch
from zoo_kernels.core.dtypes import DTYPES, accumulation_dtype
from zoo_kernels.core.sharding import match_sharding, match_varying

OP = "bias_act"


class BiasActSpec(NamedTuple):
    """What an implementation must know of a call, arrays aside."""

    act: str
    residual: bool  # whether there is one, whose gradient is wanted


def bias_act(
    x: jax.Array,
    bias: jax.Array,
    act: str = "relu",
    *,
    residual: jax.Array | None = None,
    implementation: dispatch.Requested = None,
) -> jax.Array:
    """Computes act(x + bias + residual), with one pass over memory each way.

    Args:
      x: [..., C], floating point.
      bias: [C].
      act: "identity", "relu", "relu6", "leaky_relu", "elu", "sigmoid", "tanh", "hard_sigmoid",
        "hard_swish", "silu", "gelu" (by tanh) or "gelu_exact" (by erf).
      residual: like x, added before the activation.
      implementation: None chooses by platform, a name is strict, a sequence is tried in order.

    Returns:
      An array like x. The sum is taken in float32 or better, and rounded once. On an NVIDIA GPU
      in half precision, with identity, relu or relu6, bias and sum are in x's type, so that XLA
      can make them a part of a convolution before ("cudnn" in `explain`).

    Raises:
      ValueError: arguments that do not fit each other.
      NotImplementedError: the implementation asked for cannot do the call.

    The backward pass gives the input's and the bias's gradient together, and keeps y where y
    suffices (relu and its like), else the value before the activation. At their kinks relu and
    relu6 have derivative 0, as in PyTorch.
    """
    return scale_bias_act(OP, x, None, bias, act, residual, implementation)


def scale_bias_act(
    op: str,
    x: Any,
    scale: jax.Array | None,
    bias: Any,
    act: str,
    residual: Any,
    implementation: dispatch.Requested,
) -> jax.Array:
    """Computes act(x · scale + bias + residual) for the public operator `op`; no scale means 1."""
    x, bias, residual = check_arguments(op, x, act, residual, bias=bias)
    if x.ndim == 1:  # a single example
        residual = None if residual is None else residual[None]
        return scale_bias_act(op, x[None], scale, bias, act, residual, implementation)[0]
    spec = BiasActSpec(act, residual is not None)
    operands = match_varying(x, scale, bias, residual)
    requested, call = dispatch.resolve_call(OP, implementation, _bias_act)
    y: jax.Array = call(spec, requested, *operands)
    return y


def check_arguments(op: str, x: Any, act: str, residual: Any, **vectors: Any) -> list[Any]:
    """Checks an elementwise operator's arguments.

    Returns:
      x, the vectors and the residual as arrays, in the order vectors are given, residual last.
    """
    activations.check_activation(op, act)
    x = jnp.asarray(x)
    if x.ndim < 1 or 0 in x.shape or x.dtype.name not in DTYPES:
        raise ValueError(
            f"{op}: x must be floating point, [..., C] and not empty, got {x.dtype}{list(x.shape)}"
        )
    arrays = [x]
    for name, vector in vectors.items():
        array = jnp.asarray(vector)
        if array.shape != x.shape[-1:] or array.dtype.name not in DTYPES:
            raise ValueError(
                f"{op}: {name} must be floating point of shape {x.shape[-1:]} for x of shape "
                f"{x.shape}, got {array.dtype}{list(array.shape)}"
            )
        arrays.append(array)
    if residual is not None:
        residual = jnp.asarray(residual)
        if (residual.shape, residual.dtype) != (x.shape, x.dtype):
            raise ValueError(
                f"{op}: residual must be like x, {x.dtype}{list(x.shape)}, "
                f"got {residual.dtype}{list(residual.shape)}"
            )
    return [*arrays, residual]


def add_bias_residual(
    x: jax.Array, scale: jax.Array | None, bias: jax.Array, residual: jax.Array | None
) -> jax.Array:
    """Computes x · scale + bias + residual in float32 or better; no scale means 1."""
    dtype = accumulation_dtype(x.dtype)
    z = x.astype(dtype)
    if scale is not None:
        z = z * scale.astype(dtype)
    z = z + bias.astype(dtype)
    return z if residual is None else z + residual.astype(dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _bias_act(
    spec: BiasActSpec,
    requested: dispatch.Requested,
    x: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array,
    residual: jax.Array | None,
) -> jax.Array:
    return dispatch.run_pass(OP, "forward", requested, spec, x, scale, bias, residual)


def _fwd(
    spec: BiasActSpec,
    requested: dispatch.Requested,
    x: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array,
    residual: jax.Array | None,
) -> tuple[jax.Array, Any]:
    operands = (x, scale, bias, residual)
    if activations.keeps_output(spec.act):
        y = saved = dispatch.run_pass(OP, "forward_saving_y", requested, spec, *operands)
    else:
        y, saved = dispatch.run_pass(OP, "forward_saving_z", requested, spec, *operands)
    # Only the type is needed of the bias, and x only for the scale's gradient.
    return y, (saved, None if scale is None else x, scale, bias)


def _bwd(spec: BiasActSpec, requested: dispatch.Requested, saved: Any, dy: jax.Array) -> Any:
    _, _, scale, bias = saved
    dx, dscale, dbias, dresidual = dispatch.run_pass(OP, "backward", requested, spec, *saved, dy)
    return (
        dx,
        None if scale is None else match_sharding(dscale, scale),
        match_sharding(dbias, bias),
        dresidual,
    )


_bias_act.defvjp(_fwd, _bwd)
