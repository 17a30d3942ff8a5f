"""Folds batch normalisation into the convolutions."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from zoo.models.base import Model


def fold_norms(model: Model, variables: Mapping[str, Any]) -> tuple[Model, dict[str, Any]]:
    """The same classifier without batch norms: it has fewer parameters and passes over memory.

    norm(x) = x · f + (beta − mean · f) with f = scale / √(var + eps). A norm behind a convolution
    goes into its kernel and bias; another, such as those before DenseNet's convolutions, becomes a
    scale and a bias.

    Args:
      model: any model of the zoo.
      variables: its {"params": …, "batch_stats": …}; without batch norms, {"params": …}.

    Returns:
      (model, variables): the fused definition, and its {"params": …}. Outside jit the folded
      arrays are NumPy's, computed in float64, so only the last rounding differs.

    Raises:
      ValueError: `variables` lack running statistics, or the model is fused already.
    """
    if model.fused:
        raise ValueError(f"this {model.title} is fused already")
    if model.is_imported:  # the exporter has folded them, or they are left as they are
        return model.clone(fused=True), dict(variables)
    params = _fold(variables["params"], variables.get("batch_stats", {}), model.norm_eps, ())
    return model.clone(fused=True), {"params": params}


def _fold(
    params: Mapping[str, Any], stats: Mapping[str, Any], eps: float, path: tuple[str, ...]
) -> dict[str, Any]:
    """Folds every norm in a tree of parameters, into the convolution beside it if there is one."""
    if path and path[-1].startswith("group_norm"):  # its statistics are each image's own
        return dict(params)
    if {"scale", "bias"} <= params.keys():
        return _fold_norm(params, stats, eps, path)
    if "conv" in params and "norm" in params:
        conv, norm = params["conv"], params["norm"]
        return {"conv": _fold_norm(norm, stats.get("norm", {}), eps, (*path, "norm"), conv)}
    return {
        name: _fold(child, stats.get(name, {}), eps, (*path, name))
        if isinstance(child, Mapping)
        else child
        for name, child in params.items()
    }


def _fold_norm(
    norm: Mapping[str, Any],
    stats: Mapping[str, Any],
    eps: float,
    path: tuple[str, ...],
    conv: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The scale and bias that replace a norm, or the convolution with the norm folded in."""
    if not {"mean", "var"} <= set(stats):
        raise ValueError(f'variables["batch_stats"] lacks mean and var of {"/".join(path)}')
    kernel = {"kernel": conv["kernel"]} if conv else {}
    arrays = {**norm, **stats, **kernel}
    dtypes = {name: array.dtype for name, array in arrays.items()}
    conv_bias = conv.get("bias", 0.0) if conv else 0.0
    if not any(isinstance(array, jax.core.Tracer) for array in (*arrays.values(), conv_bias)):
        arrays = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
        conv_bias = np.asarray(conv_bias, np.float64)
    factor = arrays["scale"] / (arrays["var"] + eps) ** 0.5
    bias = (arrays["bias"] + (conv_bias - arrays["mean"]) * factor).astype(dtypes["bias"])
    if conv is None:
        return {"scale": factor.astype(dtypes["scale"]), "bias": bias}
    return {"kernel": (arrays["kernel"] * factor).astype(dtypes["kernel"]), "bias": bias}
