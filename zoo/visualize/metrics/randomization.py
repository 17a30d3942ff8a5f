"""Cascade randomisation: a map that explains a model changes when the model's weights do."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from zoo.checkpoints.load import ModelWithWeights
from zoo.inference.trained import Trained
from zoo.visualize.attribution import Attribution
from zoo.visualize.inputs import Images, Targets, prepare_inputs
from zoo.visualize.layers import layer_shapes
from zoo.visualize.metrics.common import pixel_importance
from zoo.visualize.pictures import Gallery


@dataclasses.dataclass(frozen=True, eq=False)
class Cascade:
    """What `cascade_randomization` returns; shows itself in a notebook.

    Args:
      groups: the outermost modules, in the order in which they were randomised.
      similarity: of the maps to those of the trained model, once a group and all before it are
        randomised, [G, N]: rank correlations from −1 to 1.
      original: the attribution with the trained weights.
      randomized: the attribution after each group.
    """

    groups: tuple[str, ...]
    similarity: np.ndarray
    original: Attribution = dataclasses.field(repr=False)
    randomized: tuple[Attribution, ...] = dataclasses.field(repr=False)

    def gallery(self, column: str = "heat") -> Gallery:
        """The maps of each image in a row: original, then after each group.

        Args:
          column: as of `Attribution.render`.
        """
        pixels = [attribution.render(column) for attribution in (self.original, *self.randomized)]
        titles = []
        for similarity in self.similarity.T:
            titles.append(f"trained: {self.original.method}")
            titles += [f"{g} {s:.2f}" for g, s in zip(self.groups, similarity, strict=True)]
        stacked = np.stack(pixels, axis=1).reshape(-1, *pixels[0].shape[1:])
        return Gallery(stacked, titles, len(pixels) if len(self.original) > 1 else None)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves the gallery as PNG, JPEG or WebP, by the path's ending."""
        self.gallery().save(path)

    def _repr_jpeg_(self) -> bytes:
        return self.gallery()._repr_jpeg_()


def cascade_randomization(
    method: Callable[..., Attribution],
    model: ModelWithWeights,
    images: Images,
    target: Targets = None,
    *,
    top: int | None = None,
    size: int | None = None,
    seed: int = 0,
    **settings: Any,
) -> Cascade:
    """Maps as weights are randomised, from the classifier back (Adebayo et al. 2018, 1810.03292).

    The outermost modules get fresh weights and statistics one after another, and keep them. A map
    that stays the same shows edges of the image rather than what the model has learnt.

    Args:
      method: a function of `zoo.visualize`, such as `zoo.visualize.grad_cam`.
      model, images, target, top, size: as for the method. The classes stay the same.
      seed: of the fresh weights.
      **settings: the method's other arguments.

    Raises:
      ImageError, TargetError, ValueError: as the method.
    """
    inputs = prepare_inputs(model, images, target, top=top, size=size)
    trained = inputs.trained
    original = method(trained, inputs, **settings)
    fresh = trained.model.init(jax.random.key(seed), inputs.x[:1])
    groups = list_groups(trained, inputs.x.shape[1])[::-1]
    variables, randomized = trained.variables, []
    for group in groups:
        variables = _replace(variables, fresh, group)
        changed = trained.replace(variables=variables)
        probabilities = np.asarray(changed.probabilities(inputs.x))
        found = probabilities[np.arange(len(probabilities)), np.asarray(inputs.targets)]
        near = dataclasses.replace(inputs, trained=changed, probabilities=found)
        randomized.append(method(changed, near, **settings))
    pairs = [(pixel_importance(original), pixel_importance(other)) for other in randomized]
    similarity = [[rank_correlation(a, b) for a, b in zip(*pair, strict=True)] for pair in pairs]
    return Cascade(tuple(groups), np.array(similarity), original, tuple(randomized))


def list_groups(trained: Trained, size: int) -> list[str]:
    """The outermost modules with parameters, in the order of computation."""
    names = dict.fromkeys(path.split("/")[0] for path in layer_shapes(trained, size))
    return [name for name in names if name in trained.variables["params"]]


def _replace(
    variables: Mapping[str, Any], fresh: Mapping[str, Any], group: str
) -> dict[str, dict[str, Any]]:
    """The variables with a module's own taken from others, in all collections that have it."""
    return {
        collection: {**tree, **({group: fresh[collection][group]} if group in tree else {})}
        for collection, tree in variables.items()
    }


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's correlation of two arrays; 0 if one of them is constant."""
    a, b = (_rank(values.reshape(-1)) for values in (a, b))
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / norm) if norm > 0 else 0.0


def _rank(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, where equal values share the mean of theirs."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[group]
