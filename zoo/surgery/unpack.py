"""What every function that takes a model with weights accepts."""

from collections.abc import Mapping
from typing import Any

from zoo.models.base import Model


def unpack(model: Any) -> tuple[Model, Mapping[str, Any]]:
    """The definition and the variables of a model with weights.

    Args:
      model: what `zoo.trained` returns, or a pair (model, variables).

    Raises:
      TypeError: it is neither.
    """
    given = model
    if not isinstance(model, tuple | Model):
        given = getattr(model, "model", model), getattr(model, "variables", None)
    match given:
        case (Model() as definition, Mapping() as variables):
            return definition, variables
    got = type(model).__name__
    if isinstance(model, tuple):
        got = f"({', '.join(type(item).__name__ for item in model)})"
    raise TypeError(
        f"model must be what zoo.trained returns or a pair (model, variables), got {got}"
    )
