"""Adversarial examples: images changed so little that nobody sees it, and classified otherwise."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import zoo_kernels as kernels
from zoo.checkpoints.load import ModelWithWeights, as_trained
from zoo.inference.images import ImageSource
from zoo.inference.preprocessing import Preprocessing
from zoo.inference.trained import Trained
from zoo.models.base import Model
from zoo.runtime.checks import check_count, check_number
from zoo.visualize import pictures
from zoo.visualize.inputs import Target, denormalize, normalize, prepare_inputs, to_photos
from zoo.visualize.layers import Variables


@dataclasses.dataclass(frozen=True, eq=False)
class AdversarialExample:
    """Images before and after they were changed to be classified otherwise; a picture in notebooks.

    Args:
      images: the changed images, normalised, as the model takes them: [N, H, W, C].
      perturbations: what was added, in units from black 0 to white 1, [N, H, W, C].
      photos, changed: both as they are shown, [N, H, W, 3], uint8.
      labels_before, labels_after: the predicted classes.
      probabilities_before, probabilities_after: of these.
      epsilon: the largest change of a channel that was allowed.
    """

    images: np.ndarray = dataclasses.field(repr=False)
    perturbations: np.ndarray = dataclasses.field(repr=False)
    photos: np.ndarray = dataclasses.field(repr=False)
    changed: np.ndarray = dataclasses.field(repr=False)
    labels_before: tuple[str, ...]
    labels_after: tuple[str, ...]
    probabilities_before: np.ndarray
    probabilities_after: np.ndarray
    epsilon: float

    def __len__(self) -> int:
        return len(self.images)

    def picture(self, amplification: float | None = None) -> pictures.Picture:
        """For each image: the original, what was added, amplified around grey, and the changed one.

        Args:
          amplification: of what was added; by default, so that epsilon becomes black or white.

        Raises:
          ArgumentError: `amplification` is no number above 0.
        """
        factor = 0.5 / self.epsilon if amplification is None else amplification
        factor = check_number("amplification", factor, included=False)
        bands = [0, 1, 2] if self.perturbations.shape[-1] >= 3 else [0, 0, 0]
        added = pictures.to_uint8(0.5 + factor * self.perturbations[..., bands])
        tiles, titles = [], []
        for number in range(len(self)):
            tiles += [self.photos[number], added[number], self.changed[number]]
            titles += [
                f"{self.labels_before[number]} {self.probabilities_before[number]:.0%}",
                f"added, x {factor:.0f}" if factor >= 10 else f"added, x {factor:.2g}",
                f"{self.labels_after[number]} {self.probabilities_after[number]:.0%}",
            ]
        return pictures.Picture(pictures.grid(tiles, titles, columns=3))

    def save(self, path: str | os.PathLike[str], amplification: float | None = None) -> None:
        """Saves the picture as PNG, JPEG or WebP, by the path's ending.

        Raises:
          PictureError: the path has another ending, or its folder does not exist.
        """
        pictures.check_ending(path)
        self.picture(amplification).save(path)

    def _repr_jpeg_(self) -> bytes:
        return self.picture()._repr_jpeg_()


def fast_gradient_sign(
    model: ModelWithWeights,
    images: ImageSource | Iterable[ImageSource],
    target: Target | Sequence[Target] = None,
    *,
    epsilon: float = 4 / 255,
    size: int | None = None,
) -> AdversarialExample:
    """Changes each pixel by epsilon, along the sign of the gradient (Goodfellow et al. 2014).

    Args:
      model: what `zoo.trained` returns, a pair (model, variables), or a model's name.
      images: an image of any kind, or several.
      target: the class that the images are to be taken for: an index or a label, or one for each
        image. None leads away from the predicted class, to any other.
      epsilon: the largest change of a channel, from black 0 to white 1.
      size: the images' height and width; by default the model's own.

    Raises:
      ImageError: something is not an image.
      TargetError: the model has no such class.
      ArgumentError: `epsilon` is no number above 0.
      ValueError: the weights have no classifier.
    """
    epsilon = check_number("epsilon", epsilon, included=False)
    return _attack(model, images, target, epsilon, steps=1, rate=epsilon, seed=None, size=size)


def projected_gradient_descent(
    model: ModelWithWeights,
    images: ImageSource | Iterable[ImageSource],
    target: Target | Sequence[Target] = None,
    *,
    epsilon: float = 4 / 255,
    steps: int = 10,
    rate: float | None = None,
    random_start: bool = True,
    seed: int = 0,
    size: int | None = None,
) -> AdversarialExample:
    """Takes several smaller steps of `fast_gradient_sign` within epsilon (Madry et al. 2017).

    Args:
      model, images, target, epsilon, size: as for `fast_gradient_sign`.
      steps: their number.
      rate: the change of a channel in a step; by default 2.5 · epsilon / steps.
      random_start: begins with a random change within epsilon.
      seed: of that.

    Raises:
      ImageError: something is not an image.
      TargetError: the model has no such class.
      ArgumentError: `epsilon`, `steps` or `rate` has another type or range.
      ValueError: the weights have no classifier.
    """
    epsilon, steps = (
        check_number("epsilon", epsilon, included=False),
        check_count("steps", steps, 1),
    )
    rate = check_number("rate", 2.5 * epsilon / steps if rate is None else rate, included=False)
    start = seed if random_start else None
    return _attack(model, images, target, epsilon, steps=steps, rate=rate, seed=start, size=size)


def _attack(
    model: ModelWithWeights,
    images: ImageSource | Iterable[ImageSource],
    target: Target | Sequence[Target],
    epsilon: float,
    *,
    steps: int,
    rate: float,
    seed: int | None,
    size: int | None,
) -> AdversarialExample:
    trained = as_trained(model)
    inputs = prepare_inputs(trained, images, target, size=size)
    preprocessing = trained.info.preprocessing
    step = _compile(trained.model.clone(remat=False), preprocessing)
    # Resampling may have left rounding errors outside the range of pixels.
    pixels = jnp.clip(denormalize(preprocessing, inputs.x), 0, 1)
    changed = pixels
    if seed is not None:
        noise = jax.random.uniform(jax.random.key(seed), pixels.shape, minval=-1.0)
        changed = jnp.clip(pixels + epsilon * noise, 0, 1)
    signed_rate = rate if target is None else -rate
    for _ in range(steps):
        changed = step(trained.variables, changed, pixels, inputs.targets, signed_rate, epsilon)
    x = normalize(preprocessing, changed)
    labels_before, probabilities_before = inputs.labels, inputs.probabilities
    if target is not None:
        labels_before, probabilities_before = _classify(trained, inputs.x)
    labels_after, probabilities_after = _classify(trained, x)
    added = np.asarray(changed - pixels)
    if preprocessing.channels == "BGR":
        added = added[..., ::-1]
    return AdversarialExample(
        np.asarray(x),
        added,
        inputs.photos,
        to_photos(preprocessing, x),
        labels_before,
        labels_after,
        probabilities_before,
        probabilities_after,
        epsilon,
    )


def _classify(trained: Trained, x: jax.Array) -> tuple[tuple[str, ...], np.ndarray]:
    """The likeliest class of each image, and its probability."""
    probabilities = np.asarray(trained.probabilities(x))
    return tuple(trained.labels[n] for n in probabilities.argmax(1)), probabilities.max(1)


@functools.lru_cache(maxsize=32)
def _compile(module: Model, preprocessing: Preprocessing) -> Callable[..., Any]:
    """(variables, pixels, original, targets, rate, epsilon) → pixels after a step.

    A positive rate raises the cross-entropy of the targets, and a negative one lowers it.
    """

    def loss(pixels: jax.Array, variables: Variables, targets: jax.Array) -> jax.Array:
        logits: Any = module.apply(variables, normalize(preprocessing, pixels))
        likely = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[:, None], axis=1)
        return -likely.sum()

    @kernels.jit
    def step(
        variables: Variables,
        pixels: jax.Array,
        original: jax.Array,
        targets: jax.Array,
        rate: jax.Array,
        epsilon: jax.Array,
    ) -> jax.Array:
        moved = pixels + rate * jnp.sign(jax.grad(loss)(pixels, variables, targets))
        return jnp.clip(jnp.clip(moved, original - epsilon, original + epsilon), 0, 1)

    return step
