"""Strides of the stages, or dilation in their place."""

from collections.abc import Sequence
from typing import NamedTuple


class BlockStrides(NamedTuple):
    """The stride and the dilation of a block's layers.

    Args:
      stride: of the block's strided layer.
      dilation: of that layer, and of what comes before it in its block.
      dilation_after: of the layers behind it.
    """

    stride: int
    dilation: int
    dilation_after: int


def stage_strides(
    stages: Sequence[tuple[int, int]], output_stride: int, stem_stride: int = 2
) -> list[list[BlockStrides]]:
    """Strides and dilations of the blocks of each stage, for an output stride.

    Once the strides reach `output_stride`, further ones become dilation: the same kernels see what
    they saw, at more places (Chen et al. 2017, arXiv 1706.05587).

    Args:
      stages: (stride, blocks) of each; the stride is the first block's.
      output_stride: the stride to reach.
      stem_stride: the stride before the first stage.
    """
    reached, dilation, result = stem_stride, 1, []
    for stride, blocks in stages:
        before = dilation
        if reached * stride > output_stride:
            dilation *= stride
            stride = 1
        reached *= stride
        first, others = BlockStrides(stride, before, dilation), BlockStrides(1, dilation, dilation)
        result.append([first, *[others] * (blocks - 1)])
    return result
