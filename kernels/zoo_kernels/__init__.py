"""Fast operators on JAX arrays, each with its gradients; needs jax and NumPy alone.

    import zoo_kernels as kernels
    y = kernels.depthwise_conv(x, w, strides=2)

* `conv`, `depthwise_conv`: convolutions of [N, H, W, C] with kernels [kh, kw, in, out].
* `bias_act`: bias, residual and activation. `max_pool`: the largest value of each window.
* `batch_norm`, `batch_norm_inference`: normalisation by the batch's statistics, or by given ones.
* `instance_norm`: normalisation of each image by its own statistics.

Each operator has several implementations: "xla" for all platforms, "cpu" and "onednn" for CPUs,
"triton" for NVIDIA GPUs. The platform that a program is lowered for decides which one runs;
`implementation=` asks for one by name, and `explain(op, *args)` tells which one runs on each
platform, and why. `using("lax")` has all operators run in plain lax and jnp, for forward mode.
`jit` is `jax.jit` with the compiler options that make the operators fast on a CPU.
`RecomputableArray` is an activation that a convolution recomputes for its gradient.

An operator is a folder here: its `__init__` has the function and its gradients, and a file for each
implementation beside it. `implementations` lists them all; `core` has what they share.
"""

from zoo_kernels.batch_norm import batch_norm, batch_norm_inference
from zoo_kernels.bias_act import bias_act
from zoo_kernels.conv import conv
from zoo_kernels.core.compiler import compiler_options, jit
from zoo_kernels.core.dispatch import Choice, explain, using
from zoo_kernels.core.recompute import RecomputableArray
from zoo_kernels.depthwise_conv import depthwise_conv
from zoo_kernels.implementations import register_all
from zoo_kernels.instance_norm import instance_norm
from zoo_kernels.max_pool import max_pool

__all__ = [
    "Choice",
    "RecomputableArray",
    "batch_norm",
    "batch_norm_inference",
    "bias_act",
    "compiler_options",
    "conv",
    "depthwise_conv",
    "explain",
    "instance_norm",
    "jit",
    "max_pool",
    "using",
]

register_all()
