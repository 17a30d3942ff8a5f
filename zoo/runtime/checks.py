"""Checks of numbers that users give as arguments."""

import math
import operator
from typing import Any

import numpy as np

from zoo_pretrained.printable import OneLineError


class ArgumentError(OneLineError, ValueError):
    """An argument has a value that it does not take; the message says which ones it takes."""


def check_count(name: str, value: Any, least: int = 1) -> int:
    """An argument as an integer of at least `least`; ArgumentError if it is none."""
    try:
        count = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = least - 1
    if count < least:
        raise ArgumentError(f"{name} must be an integer of at least {least}, got {value!r}")
    return count


def check_number(
    name: str, value: Any, least: float = 0, most: float = math.inf, *, included: bool = True
) -> float:
    """An argument as a finite number from `least` to `most`; ArgumentError if it is none.

    Args:
      name: of the argument.
      value: its value.
      least, most: the limits.
      included: whether the limits are allowed themselves.
    """
    try:
        number = math.nan if isinstance(value, bool | np.bool_ | str) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    inside = least <= number <= most if included else least < number < most
    if not inside or math.isinf(number):
        if most == math.inf:
            range_ = f"of at least {least:g}" if included else f"above {least:g}"
        else:
            range_ = (
                f"from {least:g} to {most:g}" if included else f"between {least:g} and {most:g}"
            )
        raise ArgumentError(f"{name} must be a number {range_}, got {value!r}")
    return number
