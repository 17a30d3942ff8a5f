"""Triton kernels, written in JAX's Pallas, for NVIDIA GPUs; nothing else here imports Pallas.

JAX has deprecated this backend of Pallas (its version 0.11), and names two successors. A move
touches this folder alone, and of it, by what each would need:

* jax-triton, and kernels in Triton's own language: `launch.run` becomes `jax_triton.triton_call`,
  and the bodies (`_convolve`, `_sum` and their like) are written again in Triton, where they stay
  as they are, line for line: pointers, masks, arrays of powers of two. `Lazy` stays: it gives what
  jax-triton lacks, vmap and partitioning. Of its releases, 0.4.1 does not work with jax 0.12.
* Mosaic GPU, on Hopper and later only: `launch.run` gets its compiler parameters, and the bodies
  other loads and stores, with layouts told explicitly in place of Triton's own; tables are
  measured anew. Older GPUs would keep XLA's implementation.

`stencil`, the tables and the passes' bookkeeping stay in both cases.
"""

from collections.abc import Callable, Mapping
from typing import Any

from zoo_kernels.batch_norm import triton_passes as batch_norm
from zoo_kernels.bias_act import triton_passes as bias_act
from zoo_kernels.core import implementations as xla
from zoo_kernels.core.dispatch import Implementation, with_gradient
from zoo_kernels.depthwise_conv import triton_passes as depthwise

NAME = "triton"


def implementations(interpret: bool = False) -> dict[str, Implementation]:
    """For each operator; by Pallas's interpreter they run on any platform, slowly."""
    platforms = () if interpret else ("cuda",)
    return {
        "depthwise_conv": Implementation(
            NAME, depthwise.passes(interpret), platforms, depthwise.unsupported
        ),
        "depthwise_bias_act": Implementation(
            NAME, depthwise.fused_passes(interpret), platforms, depthwise.unsupported_fused
        ),
        "bias_act": Implementation(
            NAME,
            _differentiable(bias_act.passes(interpret), xla.bias_act.IMPLEMENTATION.passes),
            platforms,
            bias_act.unsupported,
            yields=_yields,
        ),
        "batch_norm": Implementation(
            NAME,
            _differentiable(batch_norm.passes(interpret), xla.batch_norm.IMPLEMENTATION.passes),
            platforms,
            batch_norm.unsupported,
        ),
    }


def _yields(pass_name: str, spec: object, *arrays: object) -> str | None:
    """Forward, bias and activation are what XLA does in the same pass as their neighbours."""
    if pass_name == "backward":
        return None
    return "would be a pass of its own, where XLA fuses it with what is before and behind it"


def _differentiable(
    passes: dict[str, Callable[..., Any]], references: Mapping[str, Callable[..., Any]]
) -> dict[str, Callable[..., Any]]:
    """Gives passes that a gradient of a gradient goes through the gradients of XLA's passes."""
    return {
        pass_name: with_gradient(pass_, references[pass_name]) if pass_name != "forward" else pass_
        for pass_name, pass_ in passes.items()
    }
