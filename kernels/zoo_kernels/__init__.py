"""Fast operators on arrays, each with its gradients: the ground floor of the zoo.

Arrays are NHWC, kernels HWIO. `implementation=` and `explain` say which formulation runs.
"""

from kernels import dispatch, triton, xla
from kernels.batch_norm import batch_norm, batch_norm_inference
from kernels.bias_act import bias_act
from kernels.compiler import compiler_options, jit
from kernels.conv import conv
from kernels.depthwise import depthwise_conv
from kernels.dispatch import Choice, explain
from kernels.max_pool import max_pool
from kernels.recompute import Recomputable

__all__ = [
    "Choice",
    "Recomputable",
    "batch_norm",
    "batch_norm_inference",
    "bias_act",
    "compiler_options",
    "conv",
    "depthwise_conv",
    "explain",
    "jit",
    "max_pool",
]

# What `zoo` looks for: other distributions have import packages of this name.
DISTRIBUTION = "jax-zoo"

for implementations in (*xla.IMPLEMENTATIONS, triton.implementations()):
    dispatch.register(implementations)
