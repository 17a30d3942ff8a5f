"""Batch normalisation on a CPU: XLA's passes, with sums by one loop and results written once.

Their gradients are those of XLA's passes: a loop's would keep what each of its steps read.
"""

from zoo_kernels.batch_norm import xla
from zoo_kernels.core import dispatch
from zoo_kernels.core.reductions import CPU

IMPLEMENTATION = dispatch.Implementation(
    "cpu",
    dispatch.with_gradients(xla.bind_passes(CPU), xla.IMPLEMENTATION.passes),
    platforms=("cpu",),
)
