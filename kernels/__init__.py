"""Fast operators on arrays, each with its gradients: the ground floor of the zoo.

Arrays are NHWC, kernels HWIO. `implementation=` and `explain` say which formulation runs.
"""

from kernels import dispatch, xla
from kernels.batch_norm import batch_norm
from kernels.bias_act import bias_act
from kernels.conv import conv
from kernels.depthwise import depthwise_conv
from kernels.dispatch import Choice, explain

__all__ = ["Choice", "batch_norm", "bias_act", "conv", "depthwise_conv", "explain"]

# What `zoo` looks for: other distributions have import packages of this name.
DISTRIBUTION = "jax-zoo"

dispatch.register(xla.IMPLEMENTATIONS)
