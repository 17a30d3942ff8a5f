"""Folding batch normalisation into the convolutions before it, for inference."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from zoo.models.base import Model


def fuse(model: Model, variables: Mapping[str, Any]) -> tuple[Model, dict[str, Any]]:
    """The same classifier without batch norms: fewer parameters, fewer passes over memory.

    norm(conv(x, w)) = conv(x, w · f) + (bias − mean · f) with f = scale / √(var + eps)

    Args:
      model: any model of the zoo.
      variables: its {"params": …, "batch_stats": …}.

    Returns:
      (model, variables): the fused definition, and its {"params": …}. Outside jit the folded
      arrays are NumPy's, computed in float64, so only the last rounding differs.

    Raises:
      ValueError: `variables` lack the running statistics, or the model is fused already.
    """
    if model.fused:
        raise ValueError(f"this {type(model).__name__} is fused already")
    if "batch_stats" not in variables:
        raise ValueError(
            f'variables must have "params" and "batch_stats" to be fused, got {list(variables)}'
        )
    params = _fold(variables["params"], variables["batch_stats"], model.norm_eps)
    return model.clone(fused=True), {"params": params}


def _fold(params: Mapping[str, Any], stats: Mapping[str, Any], eps: float) -> dict[str, Any]:
    """Folds every pair of "conv" and "norm" below a node."""
    if "conv" in params and "norm" in params:
        norm, moments = params["norm"], stats["norm"]
        return {"conv": _fold_pair(params["conv"], norm, moments, eps)}
    return {
        name: _fold(child, stats.get(name, {}), eps) if isinstance(child, Mapping) else child
        for name, child in params.items()
    }


def _fold_pair(
    conv: Mapping[str, Any], norm: Mapping[str, Any], moments: Mapping[str, Any], eps: float
) -> dict[str, Any]:
    arrays = [conv["kernel"], norm["scale"], norm["bias"], moments["mean"], moments["var"]]
    dtype = conv["kernel"].dtype
    if not any(isinstance(array, jax.core.Tracer) for array in arrays):
        arrays = [np.asarray(array, np.float64) for array in arrays]
    kernel, scale, bias, mean, var = arrays
    factor = scale / (var + eps) ** 0.5
    return {
        "kernel": (kernel * factor).astype(dtype),
        "bias": (bias - mean * factor).astype(dtype),
    }
