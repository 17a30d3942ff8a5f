"""Formulations that XLA compiles well: every platform's default, and the reference for others."""

from kernels.xla import batch_norm, bias_act, conv, depthwise, onednn

IMPLEMENTATIONS = (
    {
        "conv": conv.IMPLEMENTATION,
        "depthwise_conv": depthwise.IMPLEMENTATION,
        "bias_act": bias_act.IMPLEMENTATION,
        "batch_norm": batch_norm.IMPLEMENTATION,
    },
    {"depthwise_conv": onednn.IMPLEMENTATION},
)
