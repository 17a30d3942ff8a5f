"""What every method begins with: images for the model, as they are shown, and target classes."""

import dataclasses
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.checkpoints.load import ModelWithWeights, as_trained
from zoo.inference.images import ImageSource, is_single_image
from zoo.inference.preprocessing import Preprocessing
from zoo.inference.trained import Trained
from zoo.models.suggest import suggest
from zoo.runtime.checks import check_count
from zoo.visualize.layers import check_size, run_batches
from zoo_pretrained.printable import OneLineError

# A class: its index, its label, or None for the predicted one.
Target = int | str | None


class TargetError(OneLineError, ValueError):
    """A target is no class of the model; the message lists the nearest."""


@dataclasses.dataclass(frozen=True, eq=False)
class Inputs:
    """Images with a target class each.

    Args:
      trained: the model.
      x: normalised images, [N, H, W, C].
      photos: the same as they are shown, [N, H, W, 3], uint8.
      targets: class indices, [N].
      probabilities: of the target classes, [N].
    """

    trained: Trained
    x: jax.Array
    photos: np.ndarray
    targets: jax.Array
    probabilities: np.ndarray

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the target classes."""
        names = self.trained.labels
        return tuple(names[int(target)] for target in self.targets)


# What the methods take as images, and as their classes.
Images = ImageSource | Iterable[ImageSource] | Inputs
Targets = Target | Sequence[Target]


def prepare_inputs(
    model: ModelWithWeights,
    images: Images,
    target: Targets = None,
    *,
    top: int | None = None,
    size: int | None = None,
) -> Inputs:
    """Preprocesses images and finds their target classes.

    Args:
      model: what `zoo.trained` returns, a pair (model, variables), or a model's name.
      images: an image of any kind, or several; or prepared inputs, which are returned as they are.
      target: a class, for all images; or a sequence with a class for each, of which a single image
        may have several. None is the predicted class.
      top: the number of likeliest classes of each image, in place of `target`; an image comes once
        for each.
      size: the images' height and width in pixels; by default the model's own.

    Raises:
      ImageError: something is not an image.
      TargetError: a class that the model does not have, or a number of targets that does not fit.
      ValueError: the weights have no classifier, or `size` is no positive integer.
    """
    if isinstance(images, Inputs):
        if target is not None or top is not None or size is not None:
            raise TargetError(
                "prepared inputs have their targets and size; give those to prepare_inputs"
            )
        if not _is_same(as_trained(model), images.trained):
            raise TargetError("prepared inputs are of another model; give what they were made with")
        return images
    trained = as_trained(model)
    trained.require_head()
    if size is not None:
        check_size(trained, check_count("size", size))
    batch = trained.preprocess(images, size=size)
    probabilities = np.asarray(run_batches(trained.probabilities, batch))
    if not np.isfinite(probabilities).all():
        raise FloatingPointError(
            "the model's probabilities are not finite: its weights or the image may be damaged"
        )
    rows = np.arange(len(batch))
    if top is not None:
        if target is not None:
            raise TargetError(f"target and top exclude each other, got {target!r} and {top!r}")
        count = _check_top(top, probabilities.shape[1])
        targets = np.argsort(-probabilities, axis=1, kind="stable")[:, :count].reshape(-1)
        rows = np.repeat(rows, count)
    elif isinstance(target, Sequence | np.ndarray) and not isinstance(target, str):
        wanted = list(target)
        if len(batch) == 1 and is_single_image(images):
            rows = np.zeros(len(wanted), int)
        if not wanted or len(wanted) != len(rows):
            raise TargetError(f"got {len(wanted)} targets for {len(batch)} images")
        targets = np.array(
            [
                _find(trained, item, probabilities[row])
                for item, row in zip(wanted, rows, strict=True)
            ]
        )
    else:
        targets = np.array([_find(trained, target, row) for row in probabilities])
    photos = to_photos(trained.info.preprocessing, batch)
    return Inputs(
        trained,
        jnp.asarray(batch[rows]),
        photos[rows],
        jnp.asarray(targets, jnp.int32),
        probabilities[rows, targets],
    )


def _is_same(one: Trained, other: Trained) -> bool:
    """Whether these have the same definition and the same arrays."""
    arrays, others = (jax.tree.leaves(trained.variables) for trained in (one, other))
    same = one.model == other.model and len(arrays) == len(others)
    return same and all(a is b for a, b in zip(arrays, others, strict=True))


def _check_top(top: Any, classes: int) -> int:
    try:
        count = operator.index(top)
    except TypeError:
        count = 0
    if not 1 <= count <= classes:
        raise TargetError(f"top must be an integer from 1 to {classes}, got {top!r}")
    return count


def _find(trained: Trained, target: Any, probabilities: np.ndarray) -> int:
    return int(probabilities.argmax()) if target is None else find_class(trained, target)


def find_class(trained: Trained, target: Any) -> int:
    """The index of a class by its index or its label, in any case.

    Raises:
      TargetError: the model has no such class, or several of that label.
    """
    labels, classes = trained.labels, trained.model.num_classes
    if isinstance(target, str):
        # "Cardigan" is a dog and "cardigan" is clothing; elsewhere capitals do not matter.
        named = [n for n, label in enumerate(labels) if label == target] or [
            n for n, label in enumerate(labels) if label.lower() == target.lower()
        ]
        if len(named) == 1:
            return named[0]
        if len(named) > 1:
            numbers = ", ".join(map(str, named))
            raise TargetError(f"the classes {numbers} are all named {target!r}; give an index")
        if target.strip().isdecimal():
            return find_class(trained, int(target))
        hint = suggest(target, labels) or _containing(target, labels)
        raise TargetError(
            f"{trained.info.model} has no class {target!r}; "
            f"{hint or f'a target is a label or an index from 0 to {classes - 1}'}"
        )
    try:
        index = -1 if isinstance(target, bool | np.bool_) else operator.index(target)
    except TypeError:
        index = -1
    if not 0 <= index < classes:
        raise TargetError(
            f"target must be a label of {trained.info.model} or an index from 0 to {classes - 1}, "
            f"got {target!r}"
        )
    return index


def _containing(text: str, labels: Sequence[str]) -> str:
    found = [label for label in labels if text.lower() in label.lower()][:3]
    return f"did you mean {' or '.join(found)}?" if found else ""


def to_photos(preprocessing: Preprocessing, x: Any) -> np.ndarray:
    """Normalised images [N, H, W, C] → as they are shown, [N, H, W, 3], uint8.

    Grey images have three equal channels. Of more than three bands the first three are shown, of
    two the first.
    """
    pixels = np.asarray(denormalize(preprocessing, x))
    if preprocessing.channels == "BGR":
        pixels = pixels[..., ::-1]
    bands = [0, 1, 2] if pixels.shape[-1] >= 3 else [0, 0, 0]
    return np.round(255 * np.clip(pixels[..., bands], 0, 1)).astype(np.uint8)


def denormalize(preprocessing: Preprocessing, x: Any) -> Any:
    """Normalised images → pixels from 0 to 1, in the model's order of channels."""
    mean, std = (np.float32(np.asarray(v)) for v in (preprocessing.mean, preprocessing.std))
    return x * std + mean


def normalize(preprocessing: Preprocessing, pixels: Any) -> Any:
    """Pixels from 0 to 1, in the model's order of channels → normalised images."""
    mean, std = (np.float32(np.asarray(v)) for v in (preprocessing.mean, preprocessing.std))
    return (pixels - mean) / std
