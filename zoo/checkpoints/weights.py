"""Loading of a model's checkpoint by the name, folder or address of its weights."""

import os
from pathlib import Path

from zoo.checkpoints.convert import convert_published
from zoo.checkpoints.validate import validate
from zoo.models.base import ModelEntry
from zoo_pretrained import catalogue, resolve
from zoo_pretrained.checkpoint import Checkpoint


class NoWeightsError(ValueError):
    """There are no such trained weights; the message lists what there is."""


def load_weights(entry: ModelEntry, weights: str | os.PathLike[str] | None = None) -> Checkpoint:
    """The checkpoint of a model's weights; arguments and errors as for `zoo.trained`."""
    name = _default_weights(entry.name) if weights is None else os.fspath(weights)

    def check(checkpoint: Checkpoint, place: str) -> None:
        validate(*checkpoint, entry, place)

    is_place = isinstance(weights, os.PathLike) or "/" in name or os.sep in name
    if not (is_place or name.endswith(".tar")):
        try:
            return resolve.load_checkpoint(entry.name, name, convert_published, check)
        except LookupError:
            if not Path(name).is_dir():
                names = ", ".join(resolve.list_locations().get(entry.name, {})) or "none"
                raise NoWeightsError(
                    f"{entry.name} has no weights {name!r}; it has: {names}"
                ) from None
    return resolve.load_checkpoint_from(name, check)


def _default_weights(model: str) -> str:
    """The name of the weights that a model has where none are named."""
    # Stores are asked only where the catalogue has nothing.
    available = catalogue.entries().get(model) or resolve.list_locations().get(model)
    if not available:
        models = ", ".join(catalogue.entries())
        raise NoWeightsError(f"there are no weights for {model}; there are for: {models}")
    return next(iter(available))
