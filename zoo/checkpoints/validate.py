"""Checks that variables and metadata fit a model."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from zoo.models.base import Model, ModelEntry, find_model
from zoo.models.options import DTYPES
from zoo.models.suggest import suggest
from zoo_pretrained import catalogue, checkpoint
from zoo_pretrained.checkpoint import CheckpointError, flatten_variables
from zoo_pretrained.convert import count_kernel_classes
from zoo_pretrained.metadata import COUNTS, check_metadata
from zoo_pretrained.printable import printable

Shapes = dict[str, tuple[int, ...]]


def constructor_arguments(
    variables: Mapping[str, Any], metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """The constructor's arguments: the metadata's, and as many classes as the classifier has."""
    shapes = {
        path.removesuffix("/kernel"): tuple(array.shape)
        for path, array in flatten_variables(variables["params"])
        if path.endswith("/kernel") and array.shape
    }
    classes = count_kernel_classes(shapes)
    given = {} if classes is None else {"num_classes": classes}
    return {**given, **(metadata.get("arguments") or {})}


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
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:  # of any model's code
        raise CheckpointError(f"{place} does not fit {entry.name}: {error}") from error


def _check(variables: Mapping[str, Any], metadata: Mapping[str, Any], entry: ModelEntry) -> None:
    """Raises ValueError unless variables and metadata fit each other and a model."""
    if not isinstance(variables.get("params"), Mapping):
        raise ValueError("it has no params")
    model = build(variables, metadata, entry)
    check_arrays(variables, model)
    if preprocessing := metadata.get("preprocessing"):
        _check_preprocessing(preprocessing, model, model.count_channels(variables))
    head = has_head(variables, model)
    if metadata.get("head") not in (None, head):
        there = "are" if head else "are no"
        raise ValueError(f"head is {metadata['head']}, and there {there} weights for it")
    labels = metadata.get("labels")
    if labels is not None and head:
        count = len(catalogue.labels(labels) if isinstance(labels, str) else labels)
        if count != model.num_classes:
            raise ValueError(f"there are {count} labels for {model.num_classes} classes")


def _check_preprocessing(fields: Mapping[str, Any], model: Model, channels: int) -> None:
    """Raises ValueError unless a model takes what a preprocessing gives."""
    count = len(fields["mean"])
    is_colour = COUNTS.get(fields.get("channels", "RGB")) == 3  # which is adapted when it is loaded
    if count != channels and not is_colour:
        raise ValueError(
            f"preprocessing is of {count} channels, and the first convolution of {channels}"
        )
    if fields["size"] < model.min_size:
        raise ValueError(
            f"preprocessing: size must be at least {model.min_size}, got {fields['size']}"
        )


def build(variables: Mapping[str, Any], metadata: Mapping[str, Any], entry: ModelEntry) -> Model:
    """The model that a checkpoint is of; ValueError if its arguments are none of the model."""
    arguments = constructor_arguments(variables, metadata)
    known = {*inspect.signature(entry.constructor).parameters, "fused"} - {"name"}
    for name in arguments:
        if name not in known:
            hint = suggest(name, known, cutoff=0.7) or f"there are {', '.join(sorted(known))}"
            raise ValueError(
                f"its arguments cannot be used: {entry.name} takes no argument "
                f"{printable(name)!r}; {hint}"
            )
    try:
        return entry.constructor(**arguments)
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
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
        if array.dtype.name not in DTYPES or not array.dtype.isnative:
            raise ValueError(
                f"{path} has dtype {array.dtype}, of {array.dtype.str}, where the model has one of "
                f"{', '.join(DTYPES)} in this machine's byte order"
            )
    found, expected = array_shapes(variables), model_shapes(model)
    if not any(_is_of_classifier(path, model) for path in found):
        expected = {p: s for p, s in expected.items() if not _is_of_classifier(p, model)}
    first = f"params/{model.input_conv}/kernel"
    if model.count_channels(variables) and first in expected:
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
        entry = find_model(metadata["model"])
        if entry.name != metadata["model"]:
            raise ValueError(f"model must be {entry.name!r}, got {metadata['model']!r}")
        _check(variables, metadata, entry)


checkpoint.register_check(_check_saved)
