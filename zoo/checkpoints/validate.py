"""Checks that variables and metadata fit a model."""

from collections.abc import Mapping
from typing import Any

from zoo.models.base import ModelEntry
from zoo_pretrained.checkpoint import CheckpointError, flatten_variables

Shapes = dict[str, tuple[int, ...]]


def constructor_arguments(
    variables: Mapping[str, Any], metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """The constructor's arguments: the metadata's, and as many classes as the classifier has."""
    kernel = variables["params"].get("head", {}).get("kernel")
    classes = {} if kernel is None else {"num_classes": kernel.shape[-1]}
    return {**classes, **metadata.get("arguments", {})}


def validate(
    variables: Mapping[str, Any], metadata: Mapping[str, Any], entry: ModelEntry, place: str
) -> None:
    """Raises CheckpointError unless a checkpoint fits a model.

    The classifier may be missing, and the first convolution may be for any number of channels.

    Args:
      variables, metadata: the checkpoint's.
      entry: the model's entry in the table of models.
      place: where the checkpoint is; the error names it.
    """
    if "params" not in variables:
        raise CheckpointError(f"{place} does not fit {entry.name}: it has no params")
    if metadata.get("model", entry.name) != entry.name:
        raise CheckpointError(f"{place} holds a {metadata['model']}, not a {entry.name}")
    try:
        model = entry.constructor(**constructor_arguments(variables, metadata))
        expected = array_shapes(model.variable_shapes())
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{place} has arguments that {entry.name} does not take: {error}"
        ) from error
    found = array_shapes(variables)
    expected = {
        path: shape
        for path, shape in expected.items()
        if path in found or path.split("/")[1] not in model.classifier
    }
    relaxed = [path for path in expected if _same_but_channels(found.get(path, ()), expected[path])]
    if len(relaxed) == 1:  # the first convolution
        expected[relaxed[0]] = found[relaxed[0]]
    if mismatch := compare_shapes(found, expected):
        raise CheckpointError(f"{place} does not fit {entry.name}: {mismatch}")


def array_shapes(variables: Mapping[str, Any]) -> Shapes:
    """{path: shape} of arrays, or of what `Model.variable_shapes` gives."""
    return {path: tuple(array.shape) for path, array in flatten_variables(variables)}


def compare_shapes(found: Shapes, expected: Shapes) -> str:
    """Names the first array that is not as a model has it, and counts the others; "" if none."""
    mismatches = sorted(
        path for path in found.keys() | expected.keys() if found.get(path) != expected.get(path)
    )
    if not mismatches:
        return ""
    path = mismatches[0]
    return (
        f"{path} has shape {found.get(path)} where the model has {expected.get(path)}, "
        f"and {len(mismatches) - 1} more do not match"
    )


def _same_but_channels(found: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Whether two kernels differ in input channels, axis 2, and in nothing else."""
    return (
        len(found) == len(expected) == 4
        and found != expected
        and found[:2] + found[3:] == expected[:2] + expected[3:]
    )
