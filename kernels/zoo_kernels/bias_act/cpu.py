"""Bias, residual and activation on a CPU: XLA's passes, with sums by one loop.

A pass's own derivative, for second derivatives, is that of XLA's pass: that of a loop would keep
what each of its steps read.
"""

from zoo_kernels.bias_act import xla
from zoo_kernels.core import dispatch
from zoo_kernels.core.reductions import CPU

IMPLEMENTATION = dispatch.Implementation(
    "cpu",
    dispatch.with_gradients(xla.bind_passes(CPU), xla.IMPLEMENTATION.passes),
    platforms=("cpu",),
)
