"""Whether variables and metadata are a model's."""

from collections.abc import Mapping
from typing import Any

from zoo.models.base import Entry
from zoo_pretrained.checkpoint import CheckpointError, flatten_variables


def arguments(variables: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the constructor: the metadata's, and as many classes as the classifier has."""
    kernel = variables["params"].get("head", {}).get("kernel")
    classes = {} if kernel is None else {"num_classes": kernel.shape[-1]}
    return {**classes, **metadata.get("arguments", {})}


def check(
    variables: Mapping[str, Any], metadata: Mapping[str, Any], entry: Entry, place: str
) -> None:
    """Raises CheckpointError unless a checkpoint from anywhere is one of this model.

    Args:
      variables, metadata: the checkpoint's.
      entry: the model's.
      place: what the error calls it.
    """
    if "params" not in variables:
        raise CheckpointError(f"{place} does not fit {entry.name}: it has no params")
    if metadata.get("model", entry.name) != entry.name:
        raise CheckpointError(f"{place} holds a {metadata['model']}, not a {entry.name}")
    try:
        model = entry.constructor(**arguments(variables, metadata))
        expected = model.variable_shapes()
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{place} has arguments that {entry.name} does not take: {error}"
        ) from error
    given = {path: array.shape for path, array in flatten_variables(variables)}
    wanted = {path: leaf.shape for path, leaf in flatten_variables(expected)}
    headless = {
        path for path in wanted.keys() - given.keys() if path.split("/")[1] in model.classifier
    }
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
