"""Options whose values are NAME=VALUE."""

import json
from collections.abc import Callable
from typing import Any

import typer


def parse_arguments(
    texts: list[str],
    option: str = "--argument",
    parse: Callable[[str, str], Any] = lambda name, value: json.loads(value),
    kind: str = "JSON",
) -> dict[str, Any]:
    """Parses values of an option that is given several times.

    Args:
      texts: each NAME=VALUE.
      option: its name, for messages.
      parse: (name, value) → what the value means; ValueError if it means nothing.
      kind: what values are, for messages.
    """
    arguments: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            if not equals:
                raise ValueError("there is no '='")
            if name in arguments:
                raise ValueError("it is given twice")
            arguments[name] = parse(name, value)
        except (ValueError, RecursionError) as error:
            raise typer.BadParameter(
                f"{text!r} is not NAME={kind}: {error}", param_hint=option
            ) from error
    return arguments
