"""Saving of models with weights as checkpoints."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.checkpoints.load import ModelWithWeights, as_trained
from zoo.inference.preprocessing import Preprocessing
from zoo.inference.trained import make_labels
from zoo.models.base import Model
from zoo_pretrained.metadata import check_labels


def save(
    path: str | os.PathLike[str],
    model: ModelWithWeights | Model,
    variables: Mapping[str, Any] | None = None,
    *,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    licence: str | None = None,
    source: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> None:
    """Saves a model with its weights as a checkpoint, which `zoo.trained` loads as the same model.

    What is not given is what the model remembers: the constructor's arguments, and, of what
    `zoo.trained` or `zoo.adapt` returned, the preprocessing, the labels, licence and source.

    Args:
      path: the folder to make; it appears complete or not at all. Its name becomes the weights'.
      model: what `zoo.trained` or `zoo.adapt` returned, a pair (model, variables), a model's name,
        or, together with `variables`, a definition.
      variables: in place of those of `model`, such as after a training.
      labels: the names of the classes, in the order of the logits.
      preprocessing: how images become input; by default, of a definition, what its family usually
        takes.
      licence: of the weights.
      source: where they come from: an address or a file.
      overwrite: replaces a checkpoint that is there.

    Raises:
      FileExistsError: the path exists, and `overwrite` is False or it is not a checkpoint.
      ValueError: the variables or the labels do not fit the model, or no constructor of the zoo
        makes it.
      TypeError: `model` has no variables.
    """
    found = as_trained(model, variables)
    given: dict[str, Any] = {"preprocessing": preprocessing, "licence": licence}
    if not isinstance(preprocessing, Preprocessing | None):
        raise TypeError(
            f"preprocessing must be a Preprocessing, such as zoo.trained(…).info.preprocessing, "
            f"got {type(preprocessing).__name__}"
        )
    if labels is not None:
        listed = check_labels(labels)
        given["labels"] = make_labels(listed, len(listed))
    if source is not None:
        given["source"] = os.fspath(source)
    changes = {name: value for name, value in given.items() if value is not None}
    info = dataclasses.replace(found.info, **changes)
    found.replace(info=info).save(path, overwrite=overwrite)
