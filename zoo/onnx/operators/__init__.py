"""The operators of ONNX, by subject; importing it registers them all."""

from zoo.onnx.operators import (
    activations,
    arithmetic,
    control,
    convolution,
    indexing,
    linear,
    losses,
    normalization,
    pooling,
    quantization,
    reduction,
    resampling,
    sequences,
    shapes,
)

__all__ = [
    "activations",
    "arithmetic",
    "control",
    "convolution",
    "indexing",
    "linear",
    "losses",
    "normalization",
    "pooling",
    "quantization",
    "reduction",
    "resampling",
    "sequences",
    "shapes",
]
