"""What each model costs, as counted by tracing it once: that takes seconds for each model."""

import functools
import json
from importlib import resources
from typing import NamedTuple


class Cost(NamedTuple):
    """The cost of a model with its usual number of classes, for one image of its input size.

    Args:
      parameters: how many inference uses.
      multiply_adds: of convolutions and dense layers.
    """

    parameters: int
    multiply_adds: int


@functools.cache
def load_costs() -> dict[str, Cost]:
    """The cost of each constructor by its name, as `scripts/make_costs.py` wrote them."""
    text = (resources.files(__package__) / "costs.json").read_text(encoding="utf-8")
    return {name: Cost(**cost) for name, cost in json.loads(text).items()}
