"""Models without batch norms, for inference."""

from collections.abc import Mapping
from typing import Any

from zoo.checkpoints.load import ModelWithWeights, as_trained
from zoo.inference.trained import Trained
from zoo.models.base import Model
from zoo.models.fold import fold_norms


def fuse(model: ModelWithWeights | Model, variables: Mapping[str, Any] | None = None) -> Trained:
    """The same classifier without batch norms: it has fewer parameters and passes over memory.

    Args:
      model: what `zoo.trained` returns, a pair (model, variables), a model's name, or, together
        with `variables`, a definition.
      variables: {"params": …, "batch_stats": …}; without batch norms, {"params": …}.

    Returns:
      A `Trained` with the fused definition and its {"params": …}, which unpacks as (model,
      variables); everything else is remembered. Outside jit the folded arrays are NumPy's, computed
      in float64, so only the last rounding differs.

    Raises:
      ValueError: the variables lack running statistics, or the model is fused already.
      TypeError: `model` has no variables.
    """
    found = as_trained(model, variables)
    fused, folded = fold_norms(found.model, found.variables)
    return found.replace(model=fused, variables=folded, info=found.info)
