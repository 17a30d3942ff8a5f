"""The table of implementations, by operator.

On its platforms the last one that can do a call, and does not defer to another, is the default,
of those that are not for requests by name only.
"""

from collections.abc import Callable
from typing import Any

from zoo_kernels.batch_norm import cpu as batch_norm_cpu
from zoo_kernels.batch_norm import lax as batch_norm_lax
from zoo_kernels.batch_norm import xla as batch_norm_xla
from zoo_kernels.bias_act import cpu as bias_act_cpu
from zoo_kernels.bias_act import cudnn as bias_act_cudnn
from zoo_kernels.bias_act import lax as bias_act_lax
from zoo_kernels.bias_act import xla as bias_act_xla
from zoo_kernels.conv import cpu as conv_cpu
from zoo_kernels.conv import lax as conv_lax
from zoo_kernels.conv import onednn as conv_onednn
from zoo_kernels.conv import xla as conv_xla
from zoo_kernels.core.dispatch import Implementation, Passes, register, with_gradients
from zoo_kernels.depthwise_conv import cpu as depthwise_cpu
from zoo_kernels.depthwise_conv import lax as depthwise_lax
from zoo_kernels.depthwise_conv import onednn as depthwise_onednn
from zoo_kernels.depthwise_conv import xla as depthwise_xla
from zoo_kernels.max_pool import cpu as max_pool_cpu
from zoo_kernels.max_pool import lax as max_pool_lax
from zoo_kernels.max_pool import xla as max_pool_xla
from zoo_kernels.native import implementation as native

IMPLEMENTATIONS = {
    "conv": (
        conv_lax.IMPLEMENTATION,
        conv_xla.IMPLEMENTATION,
        conv_cpu.IMPLEMENTATION,
        conv_onednn.IMPLEMENTATION,
        native.CONV,
    ),
    "depthwise_conv": (
        depthwise_lax.CONV,
        depthwise_xla.CONV,
        depthwise_cpu.CONV,
        depthwise_onednn.CONV,
        native.DEPTHWISE_CONV,
    ),
    "depthwise_bias_act": (
        depthwise_lax.CONV_BIAS_ACT,
        depthwise_xla.CONV_BIAS_ACT,
        depthwise_cpu.CONV_BIAS_ACT,
        depthwise_onednn.CONV_BIAS_ACT,
        native.DEPTHWISE_BIAS_ACT,
    ),
    "bias_act": (
        bias_act_lax.IMPLEMENTATION,
        bias_act_xla.IMPLEMENTATION,
        bias_act_cpu.IMPLEMENTATION,
        bias_act_cudnn.IMPLEMENTATION,
    ),
    "batch_norm": (
        batch_norm_lax.IMPLEMENTATION,
        batch_norm_xla.IMPLEMENTATION,
        batch_norm_cpu.IMPLEMENTATION,
    ),
    "max_pool": (
        max_pool_lax.IMPLEMENTATION,
        max_pool_xla.IMPLEMENTATION,
        max_pool_cpu.IMPLEMENTATION,
        native.MAX_POOL,
    ),
}


def register_all() -> None:
    """Makes all implementations known to `dispatch`."""
    for op, implementations in IMPLEMENTATIONS.items():
        register(op, *implementations)
    for op, implementation in triton_implementations().items():
        register(op, implementation)


def triton_implementations(interpret: bool = False) -> dict[str, Implementation]:
    """The Triton kernels for NVIDIA GPUs, by operator.

    Where jax lacks a name that they need, they support no call, and give the reason.

    Args:
      interpret: run them by Pallas's interpreter, on any platform, slowly.
    """
    platforms = () if interpret else ("cuda",)

    def implement(passes: Passes, unsupported: Callable[..., str | None], **options: Any) -> Any:
        return Implementation("triton", passes, platforms, unsupported, **options)

    try:
        from zoo_kernels.batch_norm import triton_passes as batch_norm
        from zoo_kernels.bias_act import triton_passes as bias_act
        from zoo_kernels.depthwise_conv import gpu_choice as depthwise_choice
        from zoo_kernels.depthwise_conv import triton_passes as depthwise
    except (ImportError, AttributeError) as error:
        reason = f"does not work with this jax: {error}"
        operators = ("depthwise_conv", "depthwise_bias_act", "bias_act", "batch_norm")
        return {op: implement({}, lambda spec, *arrays: reason) for op in operators}
    bias_act_passes = with_gradients(bias_act.passes(interpret), bias_act_xla.IMPLEMENTATION.passes)
    batch_norm_passes = with_gradients(
        batch_norm.passes(interpret), batch_norm_xla.IMPLEMENTATION.passes
    )
    return {
        "depthwise_conv": implement(
            depthwise.passes(interpret), depthwise.unsupported, defers=depthwise_choice.defers
        ),
        "depthwise_bias_act": implement(
            depthwise.fused_passes(interpret), depthwise.unsupported_fused
        ),
        "bias_act": implement(bias_act_passes, bias_act.unsupported, defers=bias_act.defers),
        "batch_norm": implement(
            batch_norm_passes, batch_norm.unsupported, defers=batch_norm.defers
        ),
    }
