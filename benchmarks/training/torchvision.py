"""torchvision's transforms."""

import importlib
from typing import Any


def import_transforms() -> Any:
    """`torchvision.transforms`, also where torchvision's compiled operators do not load."""
    from benchmarks.harness.torchvision_operators import declare_operators

    declare_operators()
    return importlib.import_module("torchvision.transforms")
