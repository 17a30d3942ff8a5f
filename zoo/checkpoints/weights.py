"""Which checkpoint a name, a folder or an address stands for, and whether it is the model's."""

import os
from pathlib import Path

from zoo.checkpoints.convert import from_upstream
from zoo.checkpoints.validate import validate
from zoo.models.base import Entry
from zoo_pretrained import catalogue, resolve
from zoo_pretrained.addresses import redact_address
from zoo_pretrained.checkpoint import Checkpoint


class NoWeightsError(ValueError):
    """There are no such trained weights; the message lists what there is."""


def stored(entry: Entry, weights: str | os.PathLike[str] | None = None) -> Checkpoint:
    """The checkpoint of a model's weights; arguments and errors as for `zoo.trained`."""
    place = _default(entry.name) if weights is None else os.fspath(weights)
    if not ("/" in place or os.sep in place or place.endswith(".tar")):
        try:
            return resolve.load_checkpoint(entry.name, place, from_upstream)
        except LookupError:
            if not Path(place).is_dir():
                names = ", ".join(resolve.list_origins().get(entry.name, {})) or "none"
                raise NoWeightsError(
                    f"{entry.name} has no weights {place!r}; it has: {names}"
                ) from None
    checkpoint = resolve.load_checkpoint_from(place)
    validate(*checkpoint, entry, redact_address(place))
    return checkpoint


def _default(name: str) -> str:
    """The weights of a model that are used where none are named."""
    # Stores are asked only where the catalogue has nothing.
    known = catalogue.entries().get(name) or resolve.list_origins().get(name)
    if not known:
        some = ", ".join(catalogue.entries())
        raise NoWeightsError(f"there are no weights for {name}; there are for: {some}")
    return next(iter(known))
