"""Which checkpoint a name, a folder or an address stands for, and whether it is the model's."""

import os
from pathlib import Path
from typing import Any

from pretrained import catalogue, registry
from pretrained.store import Checkpoint, CheckpointError, leaves
from zoo.convert import from_upstream, template
from zoo.models.base import CLASSIFIER, Entry


class NoWeightsError(ValueError):
    """There are no such trained weights; the message lists what there is."""


def stored(entry: Entry, weights: str | os.PathLike[str] | None = None) -> Checkpoint:
    """The checkpoint of a model's weights; arguments and errors as for `zoo.trained`."""
    place = _default(entry.name) if weights is None else os.fspath(weights)
    if not ("/" in place or os.sep in place or place.endswith(".tar")):
        try:
            return registry.load(entry.name, place, from_upstream)
        except LookupError:
            if not Path(place).is_dir():
                names = ", ".join(registry.origins().get(entry.name, {})) or "none"
                raise NoWeightsError(
                    f"{entry.name} has no weights {place!r}; it has: {names}"
                ) from None
    checkpoint = registry.load_from(place)
    _check(checkpoint, entry, place)
    return checkpoint


def arguments(variables: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
    """Those of the constructor: the metadata's, and as many classes as the classifier has."""
    kernel = variables["params"].get("head", {}).get("kernel")
    classes = {} if kernel is None else {"num_classes": kernel.shape[-1]}
    return {**classes, **metadata.get("arguments", {})}


def _default(name: str) -> str:
    """The weights of a model that are used where none are named."""
    # Stores are asked only where the catalogue has nothing.
    known = catalogue.entries().get(name) or registry.origins().get(name)
    if not known:
        some = ", ".join(catalogue.entries())
        raise NoWeightsError(f"there are no weights for {name}; there are for: {some}")
    return next(iter(known))


def _check(checkpoint: Checkpoint, entry: Entry, place: str) -> None:
    """Raises CheckpointError unless a checkpoint from anywhere is one of this model."""
    variables, metadata = checkpoint
    if metadata.get("model", entry.name) != entry.name:
        raise CheckpointError(f"{place} holds a {metadata['model']}, not a {entry.name}")
    try:
        expected = template(entry.constructor(**arguments(variables, metadata)))
    except TypeError as error:
        raise CheckpointError(
            f"{place} has arguments that {entry.name} does not take: {error}"
        ) from error
    given = {path: array.shape for path, array in leaves(variables)}
    wanted = {path: leaf.shape for path, leaf in leaves(expected)}
    headless = {path for path in wanted.keys() - given.keys() if path.split("/")[1] in CLASSIFIER}
    paths = sorted(given.keys() | wanted.keys() - headless)
    amiss = [path for path in paths if given.get(path) != wanted.get(path)]
    if len(amiss) == 1 and _same_but_channels(given.get(amiss[0]), wanted.get(amiss[0])):
        return  # the first kernel, for images of other than three channels
    if amiss:
        path = amiss[0]
        raise CheckpointError(
            f"{place} does not fit {entry.name}: {path} has shape {given.get(path)} where the "
            f"model has {wanted.get(path)}, and {len(amiss) - 1} more"
        )


def _same_but_channels(one: Any, other: Any) -> bool:
    return len(one or ()) == len(other or ()) == 4 and one[:2] + one[3:] == other[:2] + other[3:]
