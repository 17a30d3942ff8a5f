"""Selects parameters by patterns of their paths."""

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.models.suggest import suggest
from zoo_pretrained.checkpoint import flatten_variables, unflatten_variables


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether a path, or a module that it lies in, matches one of the patterns.

    Args:
      path: such as "stage2/block3/conv1/kernel".
      patterns: such as "stem", "stage[1-3]", "stage2/block*/conv1" or "**/norm": "*", "?" and "[…]"
        stand for parts of one name, "**" for any number of names. What matches a pattern that
        begins with "!" is left out, unless a later one takes it in again: ["**", "!stem"] is all
        but the stem.
    """
    names, found = path.split("/"), False
    for pattern in patterns:
        if _matches_start(names, pattern.removeprefix("!").strip("/").split("/")):
            found = not pattern.startswith("!")
    return found


def invert(patterns: Sequence[str]) -> tuple[str, ...]:
    """Patterns of all that these do not match."""
    inverted = (each[1:] if each.startswith("!") else f"!{each}" for each in patterns)
    return ("**", *inverted)


def _matches_start(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the first of the names, any number of them, match the pattern."""
    if not pattern:
        return True
    first, *rest = pattern
    if first == "**":
        return any(_matches_start(names[skipped:], rest) for skipped in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], first) and _matches_start(names[1:], rest)


def check_patterns(argument: str, patterns: Sequence[str], params: Mapping[str, Any]) -> None:
    """Raises ValueError if one of the patterns matches none of the parameters."""
    paths = [path for path, _ in flatten_variables(params)]
    for pattern in (each.removeprefix("!") for each in patterns):
        if not any(matches(path, [pattern]) for path in paths):
            modules = {path[:end] for path in paths for end, c in enumerate(path) if c == "/"}
            outermost = sorted(name for name in modules if "/" not in name)
            hint = suggest(pattern, sorted(modules)) or f"the outermost are {', '.join(outermost)}"
            raise ValueError(f"{argument}: {pattern!r} matches no module of the model; {hint}")


def split(
    params: Mapping[str, Any], patterns: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters that match one of the patterns, and the others: two nested dicts."""
    inside: dict[str, Any] = {}
    outside: dict[str, Any] = {}
    for path, array in flatten_variables(params):
        (inside if matches(path, patterns) else outside)[path] = array
    return unflatten_variables(inside), unflatten_variables(outside)


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """One nested dict of two that have no array in common."""
    return unflatten_variables(dict([*flatten_variables(first), *flatten_variables(second)]))
