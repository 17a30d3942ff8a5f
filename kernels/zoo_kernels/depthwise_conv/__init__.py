"""Depthwise convolution: every channel is filtered on its own."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zoo_kernels.bias_act import bias_act
from zoo_kernels.core import activations, dispatch, sharding
from zoo_kernels.core.dtypes import DTYPES
from zoo_kernels.core.linear_vjp import ConvSpec, convolve
from zoo_kernels.core.recompute import RecomputableArray, split_recomputable
from zoo_kernels.core.window import DEPTHWISE, Padding, Window, resolve_convolution

OP = "depthwise_conv"
FUSED_OP = "depthwise_bias_act"


class DepthwiseBiasActSpec(NamedTuple):
    """What an implementation of FUSED_OP must know of a call, arrays aside."""

    window: Window
    act: str


def depthwise_conv(
    x: jax.Array | RecomputableArray,
    w: jax.Array,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    flip: bool = False,
    bias: jax.Array | None = None,
    act: str = "identity",
    implementation: dispatch.Requested = None,
) -> jax.Array:
    """Convolves each channel with its own kernels (Sifre 2014; Chollet 2017, arXiv 1610.02357).

    With a bias it is act(convolution + bias), which for inference is one pass over memory where the
    implementation can do that ("depthwise_bias_act" in `explain`). Differentiated, it is what
    `bias_act` makes of the convolution.

    Args:
      x: input, [N, H, W, C], floating point; or a RecomputableArray, which is of use only
        without a bias.
      w: kernels, [kh, kw, 1, C·m] of x's dtype; output channel c·m + j filters input channel c.
      strides, dilation: an integer, or one for height and one for width.
      padding: "SAME" (XLA's, the odd row or column last), "VALID", an integer, or
        ((top, bottom), (left, right)).
      flip: False is cross-correlation, as in JAX and PyTorch; True is convolution in the
        mathematical sense, as in Flux, which flips the kernel in height and width.
      bias: [C·m], floating point.
      act: an activation's name, as for `bias_act`; takes a bias.
      implementation: None chooses by platform, a name is strict, a sequence is tried in order.

    Returns:
      [N, H', W', C·m] of x's dtype; float16 and bfloat16 are accumulated in float32.

    Raises:
      ValueError: arguments that do not fit each other.
      NotImplementedError: the implementation asked for cannot do the call.

    Differentiable in reverse mode, to any order.
    """
    x, recomputable = split_recomputable(x)
    x, w, window = resolve_convolution(OP, x, w, strides, padding, dilation, DEPTHWISE)
    if flip:
        w = jnp.flip(w, (0, 1))
    activations.check_activation(OP, act)
    if bias is None:
        if act != "identity":
            raise ValueError(f"{OP}: act={act!r} takes a bias, got none")
        return convolve(OP, implementation, ConvSpec(window), x, w, recomputable)
    bias = jnp.asarray(bias)
    if bias.shape != w.shape[3:] or bias.dtype.name not in DTYPES:
        raise ValueError(
            f"{OP}: bias must be floating point of shape {w.shape[3:]} for w of shape "
            f"{w.shape}, got {bias.dtype}{list(bias.shape)}"
        )
    spec = DepthwiseBiasActSpec(window, act)
    operands = sharding.match_varying(x, w, bias)
    requested, call = dispatch.resolve_call(FUSED_OP, implementation, _depthwise_bias_act)
    y: jax.Array = call(spec, requested, *operands)
    return y


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _depthwise_bias_act(
    spec: DepthwiseBiasActSpec,
    requested: dispatch.Requested,
    x: jax.Array,
    w: jax.Array,
    bias: jax.Array,
) -> jax.Array:
    def call(*arrays: jax.Array) -> list[jax.Array]:
        return [dispatch.run_pass(FUSED_OP, "forward", requested, spec, *arrays)]

    partition_spec = (sharding.partition_spec(x)[0], None, None, sharding.partition_spec(w)[3])
    return sharding.auto_shard(call, [partition_spec], x, w, bias)[0]


def _fwd(
    spec: DepthwiseBiasActSpec, requested: dispatch.Requested, *arrays: jax.Array
) -> tuple[Any, Any]:
    """Runs the two operators one after the other: the gradients need what is between them."""

    def unfused(x: jax.Array, w: jax.Array, bias: jax.Array) -> jax.Array:
        y = convolve(OP, requested, ConvSpec(spec.window), x, w)
        implementation = dispatch.restrict_request("bias_act", requested)
        return bias_act(y, bias, spec.act, implementation=implementation)

    return jax.vjp(unfused, *arrays)


def _bwd(spec: DepthwiseBiasActSpec, requested: dispatch.Requested, vjp: Any, dy: jax.Array) -> Any:
    return vjp(dy)


_depthwise_bias_act.defvjp(_fwd, _bwd)
