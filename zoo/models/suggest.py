"""Names that are patterns, parts or misspellings of others."""

import difflib
import fnmatch
from collections.abc import Iterable


def matches(name: str, pattern: str) -> bool:
    """Whether a name matches a shell pattern, or contains a text without wildcards, in any case."""
    lower = pattern.lower()
    return fnmatch.fnmatchcase(name.lower(), lower if set(lower) & set("*?[") else f"*{lower}*")


def suggest(name: str, known: Iterable[str], *, cutoff: float = 0.5) -> str:
    """Gives "did you mean …?" with the names nearest to one, or "" if none is near.

    Args:
      name: what is not among the known names; capitals do not matter.
      known: the names.
      cutoff: how similar they must be, from 0 to 1.
    """
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=cutoff)
    return f"did you mean {' or '.join(by_lower[match] for match in near)}?" if near else ""
