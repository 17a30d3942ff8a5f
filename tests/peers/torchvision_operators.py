"""Lets torchvision be imported where its compiled operators do not load, as beside a CPU build."""

import functools
from typing import Any


@functools.cache
def declare_operators() -> Any:
    """Declares two operators, which is enough for the import; no model or transform needs them."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library  # what it declares lives as long as it
