"""Models with random weights that no compiler can simplify."""

from typing import Any

import jax
import numpy as np

from zoo.checkpoints.load import as_trained
from zoo.inference.trained import Trained
from zoo.models.base import Model


def perturb(variables: Any) -> Any:
    """The variables with random biases, scales and statistics; kernels stay as they are.

    Fresh ones have biases and means of 0, scales and variances of 1. Where weights are constants, a
    compiler leaves such a bias or scale out, and the program would do less than a trained model's.
    The same structure gives the same values, under any Python and jax.

    Args:
      variables: {"params": …, "batch_stats": …} of arrays, or of what jax traces.
    """
    random = np.random.default_rng(0)

    def perturb_leaf(path: Any, leaf: Any) -> Any:
        match path[-1].key:
            case "bias" | "mean":
                return leaf + random.normal(0, 0.1, leaf.shape).astype(np.float32)
            case "scale" | "var":
                return leaf * random.uniform(0.8, 1.25, leaf.shape).astype(np.float32)
            case _:
                return leaf

    return jax.tree_util.tree_map_with_path(perturb_leaf, variables)


def make_trained(model: Model, size: int) -> Trained:
    """A model with such weights, for images of a height and width in pixels."""
    images = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    variables = jax.jit(lambda key: model.init(key, images))(jax.random.key(0))
    return as_trained((model, perturb(variables)))
