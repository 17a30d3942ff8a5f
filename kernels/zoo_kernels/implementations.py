"""Formulations that XLA compiles well: every platform's default, and the reference for others."""

from zoo_kernels.batch_norm import xla as batch_norm
from zoo_kernels.bias_act import xla as bias_act
from zoo_kernels.conv import cpu as conv
from zoo_kernels.conv import onednn
from zoo_kernels.depthwise_conv import cpu as depthwise
from zoo_kernels.depthwise_conv.fused import fused
from zoo_kernels.max_pool import xla as max_pool

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
