"""Checks of numbers that users give as arguments."""

import math
import operator
from typing import Any

from zoo_pretrained.printable import OneLineError


class SettingError(OneLineError, ValueError):
    """An argument has a value that it does not take; the message says which ones it takes."""


def check_count(name: str, value: Any, least: int = 1) -> int:
    """An argument as an integer of at least `least`; SettingError if it is none."""
    try:
        count = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = least - 1
    if count < least:
        raise SettingError(f"{name} must be an integer of at least {least}, got {value!r}")
    return count


def check_number(name: str, value: Any, least: float = 0, *, included: bool = True) -> float:
    """An argument as a finite number above `least`, or of at least it; SettingError if not."""
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < least or (number == least and not included):
        range_ = f"of at least {least}" if included else f"above {least}"
        raise SettingError(f"{name} must be a number {range_}, got {value!r}")
    return number
