"""Checks that variables and metadata fit a model."""

import functools
from collections.abc import Mapping
from typing import Any

from jax import numpy as jnp

from zoo.models.base import Model, ModelEntry, find_model
from zoo_pretrained import catalogue, checkpoint
from zoo_pretrained.checkpoint import CheckpointError, flatten_variables
from zoo_pretrained.metadata import COUNTS, check_metadata

Shapes = dict[str, tuple[int, ...]]


def constructor_arguments(
    variables: Mapping[str, Any], metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """The constructor's arguments: the metadata's, and as many classes as the classifier has."""
    kernel = variables["params"].get("head", {}).get("kernel")
    classes = {} if kernel is None else {"num_classes": kernel.shape[-1]}
    return {**classes, **(metadata.get("arguments") or {})}


def validate(
    variables: Mapping[str, Any], metadata: Mapping[str, Any], entry: ModelEntry, place: str
) -> None:
    """Raises CheckpointError unless a checkpoint fits a model.

    The classifier may be missing as a whole, and the first convolution may be for any number of
    channels.

    Args:
      variables, metadata: the checkpoint's.
      entry: the model's entry in the table of models.
      place: where the checkpoint is; the error names it.
    """
    named = metadata.get("model", entry.name)
    if named != entry.name:
        raise CheckpointError(f"{place} holds a {named}, not a {entry.name}")
    try:
        check_metadata(metadata)
        _check(variables, metadata, entry)
    except ValueError as error:
        raise CheckpointError(f"{place} does not fit {entry.name}: {error}") from error


def _check(variables: Mapping[str, Any], metadata: Mapping[str, Any], entry: ModelEntry) -> None:
    """Raises ValueError unless variables and metadata fit each other and a model."""
    if not isinstance(variables.get("params"), Mapping):
        raise ValueError("it has no params")
    model = build(variables, metadata, entry)
    check_arrays(variables, model)
    channels = model.count_channels(variables)
    preprocessing = metadata.get("preprocessing") or {}
    count, order = len(preprocessing.get("mean", ())), preprocessing.get("channels", "RGB")
    if preprocessing and count != channels and (COUNTS.get(order) != 3):
        raise ValueError(
            f"preprocessing is of {count} channels, and the first convolution of {channels}"
        )
    labels = metadata.get("labels")
    count = len(catalogue.labels(labels) if isinstance(labels, str) else labels or ())
    if labels is not None and has_head(variables, model) and count != model.num_classes:
        raise ValueError(f"there are {count} labels for {model.num_classes} classes")


def build(variables: Mapping[str, Any], metadata: Mapping[str, Any], entry: ModelEntry) -> Model:
    """The model that a checkpoint is of; ValueError if its arguments are none of the model."""
    try:
        return entry.constructor(**constructor_arguments(variables, metadata))
    except (AttributeError, TypeError, ValueError) as error:  # anybody may have written them
        raise ValueError(f"its arguments cannot be used: {error}") from error


def has_head(variables: Mapping[str, Any], model: Model) -> bool:
    """Whether there are weights for the classifier."""
    return model.classifier[-1] in variables["params"]


def check_arrays(variables: Mapping[str, Any], model: Model) -> None:
    """Raises ValueError unless the arrays are those of a model.

    The classifier may be missing as a whole, and the first convolution may be for any number of
    channels.
    """
    arrays = dict(flatten_variables(variables))
    for path, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"{path} has dtype {array.dtype} where the model has floating point")
    found, expected = array_shapes(variables), model_shapes(model)
    if not any(_is_of_classifier(path, model) for path in found):
        expected = {p: s for p, s in expected.items() if not _is_of_classifier(p, model)}
    first = f"params/{model.input_conv}/kernel"
    if model.count_channels(variables):
        kernel = expected[first]
        expected = {**expected, first: (*kernel[:2], found[first][2], kernel[3])}
    if mismatch := compare_shapes(found, expected):
        raise ValueError(mismatch)


def _is_of_classifier(path: str, model: Model) -> bool:
    return path.split("/")[1] in model.classifier


@functools.lru_cache(maxsize=64)
def variable_shapes(model: Model) -> Any:
    """What `Model.variable_shapes` gives for three channels, which takes a second to find."""
    return model.variable_shapes()


def model_shapes(model: Model) -> Shapes:
    """{path: shape} of a model's variables, for images of three channels."""
    return array_shapes(variable_shapes(model))


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


def _check_saved(variables: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Raises ValueError unless what is to be saved fits the model that its metadata names."""
    if "model" in metadata:
        _check(variables, metadata, find_model(metadata["model"]))


checkpoint.register_check(_check_saved)
