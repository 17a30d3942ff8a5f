"""Maximum sensitivity: how far a map changes where the image hardly does."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.checkpoints.load import ModelWithWeights
from zoo.runtime.checks import check_count, check_number
from zoo.visualize.attribution import Attribution
from zoo.visualize.inputs import Images, Targets, prepare_inputs

Method = Callable[..., Attribution]


def max_sensitivity(
    method: Method,
    model: ModelWithWeights,
    images: Images,
    target: Targets = None,
    *,
    top: int | None = None,
    size: int | None = None,
    radius: float = 0.02,
    samples: int = 10,
    seed: int = 0,
    **settings: Any,
) -> np.ndarray:
    """The largest relative change of maps near the images (Yeh et al. 2019, arXiv 1901.09392).

    The largest of ‖Φ(x + δ) − Φ(x)‖ / ‖Φ(x)‖ over random δ, each value of which is between −radius
    and radius. A small one is a method whose maps do not depend on invisible changes.

    Args:
      method: a function of `zoo.visualize`, such as `zoo.visualize.grad_cam`.
      model, images, target, top, size: as for the method. The classes stay those of the images.
      radius: of normalised pixels.
      samples: the number of perturbations of each image.
      seed: of the perturbations.
      **settings: the method's other arguments.

    Returns:
      [N], float64.

    Raises:
      ArgumentError: `radius` or `samples` has another type or range.
      ImageError, TargetError, ValueError: as the method.
    """
    samples = check_count("samples", samples)
    radius = check_number("radius", radius, included=False)
    inputs = prepare_inputs(model, images, target, top=top, size=size)
    maps = method(inputs.trained, inputs, **settings).maps.astype(np.float64)
    axes = tuple(range(1, maps.ndim))
    length = np.sqrt((maps**2).sum(axes))
    largest = np.zeros(len(maps))
    for sample in range(samples):
        key = jax.random.fold_in(jax.random.key(seed), sample)
        change = jax.random.uniform(key, inputs.x.shape, jnp.float32, -radius, radius)
        near = dataclasses.replace(inputs, x=inputs.x + change)
        distance = method(inputs.trained, near, **settings).maps - maps
        largest = np.maximum(largest, np.sqrt((distance**2).sum(axes)))
    return largest / np.where(length > 0, length, 1)
