"""Formulations that XLA compiles well: every platform's default, and the reference for others."""

from kernels.xla import batch_norm, bias_act, conv, depthwise, max_pool, onednn
from kernels.xla.fused import fused

IMPLEMENTATIONS = (
    {
        "conv": conv.IMPLEMENTATION,
        "depthwise_conv": depthwise.IMPLEMENTATION,
        "depthwise_bias_act": fused(depthwise.IMPLEMENTATION),
        "bias_act": bias_act.IMPLEMENTATION,
        "batch_norm": batch_norm.IMPLEMENTATION,
        "max_pool": max_pool.IMPLEMENTATION,
    },
    {
        "conv": onednn.CONV,
        "depthwise_conv": onednn.DEPTHWISE,
        "depthwise_bias_act": fused(onednn.DEPTHWISE),
    },
)
