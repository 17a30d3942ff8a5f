"""The order of names that have numbers in them."""

import re


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """A key that sorts "4.10" behind "4.9", and "3b" before "4a"."""
    return tuple(
        (0, int(part)) if part.isdecimal() else (1, part)
        for part in re.findall(r"[0-9]+|[^0-9]+", name)
    )
