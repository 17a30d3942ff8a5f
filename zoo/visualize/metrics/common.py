"""What the metrics share: the images of an attribution, and the order of its pixels."""

import jax.numpy as jnp
import numpy as np

from zoo.checkpoints.load import ModelWithWeights, as_trained
from zoo.visualize.attribution import Attribution
from zoo.visualize.inputs import Inputs, TargetError


def restore_inputs(model: ModelWithWeights, attribution: Attribution) -> Inputs:
    """The images and targets of an attribution, for a model that takes such images.

    Raises:
      TargetError: the model does not have the classes.
      ValueError: the weights have no classifier, or the model takes images of bands that the
        attribution's photos do not show.
    """
    trained = as_trained(model)
    trained.require_head()
    classes, largest = trained.model.num_classes, int(attribution.targets.max())
    if largest >= classes:
        raise TargetError(
            f"the attribution is of class {largest}, but {trained.info.model} has {classes} "
            f"classes; give the model that it was made with"
        )
    preprocessing = trained.info.preprocessing
    channels = len(preprocessing.mean)
    if channels not in (1, 3):
        raise ValueError(
            f"metrics read the images from the attribution's photos, which show 3 channels, and "
            f"{trained.info.model} takes {channels}"
        )
    x = jnp.asarray(preprocessing.normalize(attribution.photos[..., :channels]))
    targets = jnp.asarray(attribution.targets, jnp.int32)
    return Inputs(trained, x, attribution.photos, targets, attribution.probabilities)


def pixel_importance(attribution: Attribution) -> np.ndarray:
    """One value for each pixel, [N, H, W]: of maps with channels, the sum of absolute values."""
    maps = attribution.maps
    return maps if maps.ndim == 3 else np.abs(maps).sum(-1)


def rank_pixels(importance: np.ndarray) -> np.ndarray:
    """Ranks [H, W] of the values [H, W], from 0 for the largest; equal ones in random order.

    In the order of their positions, equal values would come from one side of the image.
    """
    values = importance.reshape(-1)
    ties = np.random.default_rng(0).permutation(values.size)
    ranks = np.empty(values.size, np.int32)
    ranks[np.lexsort((ties, -values))] = np.arange(values.size, dtype=np.int32)
    return ranks.reshape(importance.shape)
