"""Objectives as functions of a model's outputs: of layers' directions, and of another image's."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zoo.visualize.optimization.objectives import ResolvedTerm

# Below a length of this, the direction of an output says nothing.
SMALL = 1e-6


class Goal(NamedTuple):
    """Terms of N pictures for one layer; all arrays, so that one program serves all channels.

    Args:
      vector: a direction for each picture, [N, C].
      position: row and column, [N, 2]; −1 for the mean of all positions.
      cosine_power, weight: [N].
    """

    vector: jax.Array
    position: jax.Array
    cosine_power: jax.Array
    weight: jax.Array


class Wishes(NamedTuple):
    """What N pictures are to raise: a goal for each layer, in order, and how much they differ.

    Args:
      goals: one for each term.
      diversity: the weight of the penalty on similar pictures; a number.
    """

    goals: tuple[Goal, ...]
    diversity: jax.Array


class Observed(NamedTuple):
    """What a model makes of N pictures.

    Args:
      outputs: of each layer, in order, [N, H, W, C] or [N, C].
      references: the same of other images, or empty.
      pixels: of the pictures, [N, size, size, channels], from 0 to 1 and not moved.
      images: the same normalised and moved, as the model gets them.
    """

    outputs: tuple[jax.Array, ...]
    references: tuple[jax.Array, ...]
    pixels: jax.Array
    images: jax.Array


def make_goals(rows: Sequence[Sequence[ResolvedTerm]]) -> tuple[Goal, ...]:
    """Terms of pictures, whose layers agree, as arrays: one goal for each layer."""
    return tuple(
        Goal(
            jnp.asarray(np.stack([term.vector for term in terms])),
            jnp.asarray([term.position for term in terms], jnp.int32),
            jnp.asarray([term.cosine_power for term in terms], jnp.float32),
            jnp.asarray([term.weight for term in terms], jnp.float32),
        )
        for terms in zip(*rows, strict=True)
    )


def score_goals(wishes: Wishes, observed: Observed, count: int) -> tuple[jax.Array, jax.Array]:
    """Objectives of N pictures.

    Args:
      wishes: what they are to raise.
      observed: the layers' outputs; one more than there are goals where `count` is above 1, from
        which the pictures' similarity is computed.
      count: how many pictures in a row belong together and are to differ.

    Returns:
      What is to rise, [N], and the objectives without the penalty, [N].
    """
    pairs = zip(wishes.goals, observed.outputs, strict=False)
    values = functools.reduce(jnp.add, [score_goal(goal, y) for goal, y in pairs])
    if count == 1:
        return values, values
    alike = similarity(observed.outputs[-1], count)
    # In proportion to the objective, so that one weight fits all layers.
    penalty = wishes.diversity * jnp.abs(jax.lax.stop_gradient(values)) * alike
    return values - penalty, values


def score_goal(goal: Goal, y: jax.Array) -> jax.Array:
    """Scores a layer: weight × y · d × max(0.1, cos(y, d)) ** cosine_power, [N].

    The mean of all positions, or the value at one.

    Args:
      goal: directions d and so on.
      y: a layer's output, [N, H, W, C] or [N, C].
    """
    y = y.astype(jnp.float32)
    y = y[:, None, None] if y.ndim == 2 else y
    dot = jnp.einsum("nhwc,nc->nhw", y, goal.vector)
    length = jnp.sqrt(jnp.square(y).sum(-1) + SMALL**2)
    values = dot * jnp.maximum(0.1, dot / length) ** goal.cosine_power[:, None, None]
    rows, columns = (jnp.arange(side) for side in values.shape[1:])
    place = (goal.position[:, 0, None, None] == rows[:, None]) & (
        goal.position[:, 1, None, None] == columns
    )
    share = jnp.where(goal.position[:, :1, None] < 0, 1 / (len(rows) * len(columns)), place)
    return goal.weight * (share * values).sum((1, 2))


def similarity(y: jax.Array, count: int) -> jax.Array:
    """The mean cosine between a picture's Gram matrix and those of the others of its group.

    Args:
      y: feature maps, [N, H, W, C].
      count: of pictures in a group; groups follow each other.

    Returns:
      [N]; 1 if all of a group have the same textures. Olah et al. 2017, "Diversity".
    """
    flat = y.astype(jnp.float32).reshape(-1, count, y.shape[1] * y.shape[2], y.shape[3])
    grams = jnp.einsum("gnpc,gnpd->gncd", flat, flat).reshape(*flat.shape[:2], -1)
    grams /= jnp.sqrt(jnp.square(grams).sum(-1, keepdims=True) + SMALL**2)
    cosines = jnp.einsum("gnk,gmk->gnm", grams, grams)
    others = cosines.sum(-1) - jnp.square(grams).sum(-1)
    return others.reshape(-1) / (count - 1)


def score_class(goal: Any, observed: Observed) -> tuple[jax.Array, jax.Array]:
    """The logit less weight × the mean square of the normalised image, [N]; and the logit, [N].

    Args:
      goal: class indices [N] and the weight.
      observed: the logits, and the images.
    """
    targets, weight = goal
    logits = jnp.take_along_axis(observed.outputs[0], targets[:, None], axis=1)[:, 0]
    return logits - weight * jnp.square(observed.images).mean((1, 2, 3)), logits


def score_match(weight: jax.Array, observed: Observed) -> tuple[jax.Array, jax.Array]:
    """The negative distance of features from the reference's, less total variation; Mahendran 2015.

    Args:
      weight: of the total variation.
      observed: the features of pictures and references.

    Returns:
      What is to rise, and −‖y − r‖² / ‖r‖², each [N].
    """
    y, reference = (_flat(a[0]) for a in (observed.outputs, observed.references))
    distance = jnp.square(y - reference).sum(1) / (jnp.square(reference).sum(1) + SMALL)
    return -distance - weight * total_variation(observed.pixels), -distance


def score_caricature(power: jax.Array, observed: Observed) -> tuple[jax.Array, jax.Array]:
    """Twice y · r / ‖r‖ × max(0.1, cos(y, r)) ** power, over all positions at once: [N]."""
    y, reference = (_flat(a[0]) for a in (observed.outputs, observed.references))
    dot = (y * reference).sum(1) / jnp.sqrt(jnp.square(reference).sum(1) + SMALL**2)
    cosine = dot / jnp.sqrt(jnp.square(y).sum(1) + SMALL**2)
    values = dot * jnp.maximum(0.1, cosine) ** power
    return values, values


def total_variation(pixels: jax.Array) -> jax.Array:
    """The mean absolute difference between neighbours in images [N, H, W, C], [N]."""
    down, right = jnp.diff(pixels, axis=1), jnp.diff(pixels, axis=2)
    return jnp.abs(down).mean((1, 2, 3)) + jnp.abs(right).mean((1, 2, 3))


def _flat(y: jax.Array) -> jax.Array:
    return y.astype(jnp.float32).reshape(len(y), -1)
