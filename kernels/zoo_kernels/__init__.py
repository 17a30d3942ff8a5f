"""Fast operators on arrays, each with its gradients: the ground floor of the zoo.

Arrays are NHWC, kernels HWIO. `implementation=` and `explain` say which formulation runs.
"""

from zoo_kernels.batch_norm import batch_norm, batch_norm_inference
from zoo_kernels.bias_act import bias_act
from zoo_kernels.conv import conv
from zoo_kernels.core import dispatch
from zoo_kernels.core import implementations as xla
from zoo_kernels.core import pallas as triton
from zoo_kernels.core.compiler import compiler_options, jit
from zoo_kernels.core.dispatch import Choice, explain
from zoo_kernels.core.recompute import RecomputableArray
from zoo_kernels.depthwise_conv import depthwise_conv
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
    "jit",
    "max_pool",
]

for implementations in (*xla.IMPLEMENTATIONS, triton.implementations()):
    dispatch.register(implementations)
