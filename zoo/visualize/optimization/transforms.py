"""Random small movements of an image, under which a visualisation must keep its effect."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from zoo.runtime.checks import ArgumentError


@dataclasses.dataclass(frozen=True)
class Movements:
    """How far an image is moved at random, in each step anew; lucid's, as one resampling.

    Args:
      jitter: the widths in pixels of the ranges of two shifts, before and after the turn.
      scale: the smallest and the largest scale.
      degrees: the largest angle, to either side.
    """

    jitter: tuple[float, float] = (8.0, 4.0)
    scale: tuple[float, float] = (0.9, 1.1)
    degrees: float = 10.0


def find_movements(transforms: bool | Movements) -> Movements | None:
    """The movements that the argument `transforms` asks for; None for none.

    Raises:
      ArgumentError: it is neither True, nor False, nor movements.
    """
    if isinstance(transforms, Movements):
        return transforms
    if not isinstance(transforms, bool | np.bool_):
        raise ArgumentError(f"transforms must be True, False or Movements, got {transforms!r}")
    return Movements() if transforms else None


def move(image: jax.Array, key: jax.Array, movements: Movements) -> jax.Array:
    """An image [H, W, C], shifted, scaled and turned about its centre, and shifted again.

    Interpolated linearly; mid-grey (0.5) comes in from outside.
    """
    keys = jax.random.split(key, 4)
    before, after = (
        jax.random.uniform(key, (2,), minval=-width / 2, maxval=width / 2)
        for key, width in zip(keys[:2], movements.jitter, strict=True)
    )
    scale = jax.random.uniform(keys[2], minval=movements.scale[0], maxval=movements.scale[1])
    limit = math.radians(movements.degrees)
    angle = jax.random.uniform(keys[3], minval=-limit, maxval=limit)
    cosine, sine = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    center = jnp.array([(side - 1) / 2 for side in image.shape[:2]])
    rows, columns = jnp.meshgrid(*(jnp.arange(side) for side in image.shape[:2]), indexing="ij")
    y, x = rows - center[0] - after[0], columns - center[1] - after[1]
    source = jnp.stack([cosine * y + sine * x, cosine * x - sine * y], axis=-1)
    return sample(image, source + center - before)


def sample(image: jax.Array, positions: jax.Array, outside: float = 0.5) -> jax.Array:
    """An image's values between its pixels, interpolated linearly.

    Args:
      image: [H, W, C].
      positions: rows and columns, [h, w, 2].
      outside: the value of all pixels outside the image.

    Returns:
      [h, w, C].
    """
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)), constant_values=outside)
    last = jnp.array(image.shape[:2])  # the last that has a neighbour
    positions = jnp.clip(positions + 1, 0, last + 1)
    corner = jnp.minimum(jnp.floor(positions).astype(jnp.int32), last)
    weight = positions - corner
    total = jnp.zeros((*positions.shape[:2], image.shape[-1]), image.dtype)
    for down in (0, 1):
        for right in (0, 1):
            share = jnp.abs(1 - down - weight[..., 0]) * jnp.abs(1 - right - weight[..., 1])
            total += share[..., None] * padded[corner[..., 0] + down, corner[..., 1] + right]
    return total
