"""Which of our modules each of the source's becomes, by a family's rules."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Rules = Sequence[tuple[str, str] | tuple[str, str, tuple[int, int, int] | str]]


class Target(NamedTuple):
    """Where a module's arrays go; `flattened` as a rule's third entry."""

    path: str
    flattened: tuple[int, int, int] | None
    block: tuple[Any, ...] = ()


def matches(modules: Iterable[str], rules: Rules) -> dict[str, Target]:
    """What the first rule that matches says of each module, "#" and "*" as they are."""
    made, known = {}, dict.fromkeys(modules)
    for module in known:
        for pattern, path, *rest in rules:
            match = re.fullmatch(pattern, module)
            more = rest[0] if rest else None
            if match and not (isinstance(more, str) and match.expand(more) not in known):
                block = _natural(match["block"]) if re.search(r"[#*]", path) else ()
                flattened = more if isinstance(more, tuple) else None
                made[module] = Target(match.expand(path), flattened, block)
                break
    return made


def targets(kinds: Mapping[str, str], rules: Rules, paths: Collection[str]) -> dict[str, Target]:
    """For each of the source's modules that a rule maps, where its arrays go.

    Args:
      kinds: "conv", "norm" or "dense" by module.
      rules: the table.
      paths: of our arrays.
    """
    blocks = _blocks(paths)
    layers = {path.rpartition("/")[0].removeprefix("params/") for path in paths}
    made = {}
    ranked: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
    for module, match in matches(kinds, rules).items():
        path = match.path + (kinds[module] if match.path.endswith("/") else "")
        made[module] = match._replace(path=path)
        ranked[_together(path, kinds[module])].add(match.block)
    order = {group: sorted(found) for group, found in ranked.items()}
    for module, match in list(made.items()):
        path, mark = match.path, "*" if "*" in match.path else "#"
        if mark not in path:
            continue
        ours = [b for b in blocks if mark == "#" or path.replace(mark, b) in layers]
        rank = order[_together(path, kinds[module])].index(match.block)
        if not kinds[module] or rank >= len(ours):
            del made[module]  # the model has fewer
        else:
            made[module] = match._replace(path=path.replace(mark, ours[rank]))
    return made


def _together(path: str, kind: str) -> str:
    """What a block's number is ranked among: all of a kind, or all that go to such a path."""
    return path if "*" in path else f"#{kind}" if "#" in path else ""


def _natural(text: str) -> tuple[Any, ...]:
    """Sorts "4.10" behind "4.9", and "3b" before "4a"."""
    return tuple(int(part) if part.isdigit() else part for part in re.findall(r"\d+|[a-z]+", text))


def _blocks(paths: Iterable[str]) -> list[str]:
    """The paths of all blocks, or of the convolutions that stages have in their place, in order."""
    numbers = {
        (int(match[1]), int(match[3])): match[0].removeprefix("params/").rstrip("/")
        for path in paths
        if (match := re.match(r"params/stage(\d+)/(block|conv)(\d+)/", path))
    }
    return [path for _, path in sorted(numbers.items())]
