"""Max pooling on a CPU: as by XLA, but padded arrays are written once, not by each reader."""

from zoo_kernels.core import cpu, dispatch
from zoo_kernels.max_pool.xla import Copies, bind_passes

IMPLEMENTATION = dispatch.Implementation(
    "cpu", bind_passes(Copies(cpu.pad, cpu.materialize)), platforms=("cpu",)
)
