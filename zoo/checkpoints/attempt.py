"""One way to convert a file's arrays to a model."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from zoo.checkpoints.validate import variable_shapes
from zoo.models.base import Model, ModelEntry
from zoo.models.options import INTERNAL
from zoo_pretrained import convert as conversion
from zoo_pretrained.convert import ConversionError
from zoo_pretrained.convert.source import Source
from zoo_pretrained.spelling import argument, choose


class Attempt(NamedTuple):
    """What is converted, and to what.

    Args:
      entry: the model's.
      source: whose names the arrays have.
      arrays: by name.
      inside: the part of the file that they are, or None.
      ignore: the patterns of names that were left out of them.
      head: whether with the classifier.
      num_classes: as it was asked for; None for as many as the arrays have.
      arguments: of the constructor.
    """

    entry: ModelEntry
    source: Source
    arrays: Mapping[str, np.ndarray]
    inside: str | None
    ignore: tuple[str, ...]
    head: bool
    num_classes: int | None
    arguments: Mapping[str, Any]

    def convert(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Lazy variables, and all of the constructor's arguments.

        Raises:
          ConversionError: the arrays do not fit, or the constructor does not take the arguments.
        """
        arguments = {**self.source.arguments, **self.arguments}
        classes = self.num_classes or conversion.count_classes(self.arrays, self.source)
        arguments["num_classes"] = classes or self.entry.constructor().num_classes
        model = _construct(self.entry, arguments)
        shapes = variable_shapes(model)
        channels = conversion.count_channels(self.arrays, self.source, shapes, model.input_conv)
        if channels not in (None, 0, 3):
            shapes = model.variable_shapes(channels)
        optional = () if self.head else model.classifier
        variables = conversion.convert(self.arrays, self.source, shapes, optional=optional)
        return variables, arguments


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Raises ConversionError for arguments of constructors that only the zoo gives."""
    for name in sorted({*INTERNAL, "name"} & arguments.keys()):
        raise ConversionError(
            f"{name!r} is no argument that {choose(python='arguments', shell='--argument')} may set"
        )
    if "num_classes" in arguments:
        given = argument("num_classes", arguments["num_classes"])
        raise ConversionError(f"num_classes is an argument of its own: {given}")


def _construct(entry: ModelEntry, arguments: Mapping[str, Any]) -> Model:
    try:
        return entry.constructor(**arguments)
    except (TypeError, ValueError) as error:
        raise ConversionError(f"{entry.name} does not take these arguments: {error}") from error
