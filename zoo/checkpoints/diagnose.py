"""Why a file of weights does not fit a model, and what would make it fit.

Whatever is proposed has been tried: the file is converted again with other arguments.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from zoo.checkpoints.attempt import Attempt
from zoo.models.base import MODELS, load_detectors
from zoo.models.costs import load_costs
from zoo_pretrained import convert as conversion
from zoo_pretrained.convert import ConversionError
from zoo_pretrained.printable import printable
from zoo_pretrained.read import ReadError
from zoo_pretrained.spelling import argument, choose

# How many names a part's path may have, how many models of a family are tried, and how many
# patterns anybody wants to type.
MAX_DEPTH = 4
MAX_MODELS = 3
MAX_PATTERNS = 10


def explain(
    failed: Attempt,
    error: ConversionError,
    read_part: Callable[[str], Mapping[str, np.ndarray]],
) -> ConversionError:
    """The error of weights that do not fit, with what would make them fit.

    Args:
      failed: the attempt.
      error: what it raised.
      read_part: reads the arrays inside a part of the file.
    """
    unfilled = sum(mismatch.is_unfilled for mismatch in error.mismatches)
    summary = (
        f"the weights do not fit {failed.entry.name}: {len(error.mismatches) - unfilled} of the "
        f"file's {len(failed.arrays)} entries have no place, "
        f"and {unfilled} of the model's arrays nothing to fill them"
    )
    hints = []
    attempts = [failed]
    separator = failed.source.framework.separator
    if part := _find_part(failed):
        count = sum(name.startswith(part + separator) for name in failed.arrays)
        under = printable(f"'{part}{separator}'")
        hints.append(f"{count} of {len(failed.arrays)} entries lie under {under}")
        inside = part if failed.inside is None else f"{failed.inside}{separator}{part}"
        # A dict of a checkpoint has no name together with a part of its model.
        with contextlib.suppress(ReadError):
            within = failed._replace(arrays=read_part(inside), inside=inside, ignore=())
            attempts.append(within)
    others = (other for attempt in attempts for other in _similar_models(attempt))
    for attempt in (*attempts, *others):
        remedy = _find_remedy(attempt, failed)
        if remedy is not None:
            if attempt.entry is not failed.entry:
                hints.append(f"these look like {attempt.entry.name}'s")
            hints.append(f"try {_spell(remedy)}")
            return ConversionError(summary, error.mismatches, hints)
    if len(attempts) > 1:
        hints.append(f"try {_spell({'inside': attempts[-1].inside})}")
    return ConversionError(summary, error.mismatches, hints)


def _spell(arguments: Mapping[str, Any]) -> str:
    """Arguments as they are typed, beside those that were given."""
    words = (argument(name, value) for name, value in arguments.items())
    return choose(python=", ", shell=" ").join(words)


def _find_part(attempt: Attempt) -> str | None:
    """The part that most of the arrays lie in, if the rules know more names within it."""
    separator = attempt.source.framework.separator
    counts: Counter[str] = Counter()
    for name in attempt.arrays:
        modules = name.split(separator)[:-1][:MAX_DEPTH]
        counts.update(separator.join(modules[: n + 1]) for n in range(len(modules)))
    best, mapped = None, _count_mapped(attempt, "")
    for part, count in counts.most_common():
        if 2 * count < len(attempt.arrays):
            break
        if (found := _count_mapped(attempt, part + separator)) > mapped:
            best, mapped = part, found
    return best


def _count_mapped(attempt: Attempt, start: str) -> int:
    """How many arrays the rules map, of those whose names begin so, by the rest of their names."""
    below = {n.removeprefix(start): a for n, a in attempt.arrays.items() if n.startswith(start)}
    return len(below) - len(conversion.find_unmapped(below, attempt.source))


def _find_remedy(attempt: Attempt, failed: Attempt) -> dict[str, Any] | None:
    """The arguments by which an attempt succeeds where another failed; None if there are none."""
    unmapped = dict.fromkeys(conversion.find_unmapped(attempt.arrays, attempt.source))
    kept = {name: array for name, array in attempt.arrays.items() if name not in unmapped}
    patterns = _list_patterns(unmapped, kept, attempt.source.framework.separator)
    if len(patterns) > MAX_PATTERNS:
        return None
    classes = conversion.count_classes(kept, attempt.source)
    for head in dict.fromkeys((attempt.head, False)):
        for num_classes in dict.fromkeys((attempt.num_classes, classes)):
            changed = attempt._replace(arrays=kept, head=head, num_classes=num_classes)
            try:
                changed.convert()
            except ConversionError:
                continue
            wanted = {
                "model": attempt.entry.name,
                "inside": attempt.inside,
                "head": head,
                "num_classes": num_classes,
                "ignore": [*attempt.ignore, *patterns],
            }
            given = {
                "model": failed.entry.name,
                "inside": failed.inside,
                "head": failed.head,
                "num_classes": failed.num_classes,
                "ignore": [*failed.ignore],
            }
            changes = {name: value for name, value in wanted.items() if value != given[name]}
            return {name: value for name, value in changes.items() if value not in (None, [])}
    return None


def _list_patterns(names: Iterable[str], kept: Iterable[str], separator: str) -> list[str]:
    """Patterns that match all of the names, and none of those that are kept."""
    used = {start for name in kept for start in _list_starts(name, separator)}
    patterns = {}
    for name in names:
        start = next((s for s in _list_starts(name, separator) if s not in used), None)
        patterns[name if start is None else f"{start}*"] = True
    return list(patterns)


def _list_starts(name: str, separator: str) -> list[str]:
    """How a name begins, up to each of its separators."""
    parts = name.split(separator)
    return [separator.join(parts[:n]) + separator for n in range(1, len(parts))]


def _similar_models(attempt: Attempt) -> Iterator[Attempt]:
    """The same arrays for the models that they are likeliest of, by their names and number."""
    found = []
    entries = [*MODELS.values(), *load_detectors().values()]
    for family in dict.fromkeys(entry.family for entry in entries):
        for source in conversion.sources(family).values():
            if source.framework is attempt.source.framework:
                unmapped = len(conversion.find_unmapped(attempt.arrays, source))
                found.append((unmapped, family, source))
    if not found:
        return
    _, family, source = min(found, key=lambda row: row[0])
    parameters, costs = conversion.count_parameters(attempt.arrays, source), load_costs()
    members = [e for e in entries if e.family == family and e is not attempt.entry]
    members.sort(key=lambda entry: abs(costs[entry.name].parameters - parameters))
    for entry in members[:MAX_MODELS]:
        yield attempt._replace(entry=entry, source=source)
