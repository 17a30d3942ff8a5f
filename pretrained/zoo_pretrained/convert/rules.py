r"""Rules: which of our modules each module of a source becomes.

A source's rules are data, rows of (pattern, path):

- A pattern is a regular expression for the whole path of a source's module, such as
  layer4.0.conv1; the first that matches gives our path. Groups fill in \1, \2.
- "#" in our path is a block. Sources number blocks in different ways, so what the group named
  "block" matches is ranked among everything that the rules match, and the n-th is our n-th: of
  features.0, features.3, features.6 the second becomes stage2/conv1. Convolutions and norms are
  ranked separately, as VGG numbers both in one list.
- "*" is a block too, ranked only among those that have what follows it: of conv2d_4, conv2d_5,
  conv2d_6 the second goes to the second block that has a shortcut.
- A path that ends in "/" is a convolution with its norm: "conv" or "norm" is added, by what the
  source's module is. If the convolution has a bias that ours lacks, the norm's mean absorbs it.

A row with a condition is a `Rule` with `flattened` or `beside`.

The separable convolutions of Keras, modules with two kernels, count as two: name/depthwise and
name/pointwise.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from zoo_pretrained.natural_order import natural_key


class Rule(NamedTuple):
    """A row of a source's rules.

    Args:
      pattern: for the path of the source's module.
      path: of our module.
      flattened: the (channels, height, width) that was flattened before a dense layer: its rows
        change from the order CHW to HWC.
      beside: the path of another module, in which groups fill in too, that the source must have
        for the rule to apply.
    """

    pattern: str
    path: str
    flattened: tuple[int, int, int] | None = None
    beside: str | None = None


Rules = Sequence[tuple[str, str] | Rule]


class Target(NamedTuple):
    """Where a module's arrays go.

    Args:
      path: of our module.
      flattened: as in `Rule`.
      block: what the block is ranked by; () where the path has none.
    """

    path: str
    flattened: tuple[int, int, int] | None
    block: tuple[Any, ...] = ()


def match_rules(modules: Iterable[str], rules: Rules) -> dict[str, Target]:
    """The target of each module by the first rule that matches, "#" and "*" not yet replaced."""
    targets, paths = {}, dict.fromkeys(modules)
    for module in paths:
        for rule in (Rule(*row) for row in rules):
            match = re.fullmatch(rule.pattern, module)
            if not match or (rule.beside and match.expand(rule.beside) not in paths):
                continue
            block = natural_key(match["block"]) if re.search(r"[#*]", rule.path) else ()
            targets[module] = Target(match.expand(rule.path), rule.flattened, block)
            break
    return targets


def find_targets(
    kinds: Mapping[str, str], rules: Rules, paths: Collection[str]
) -> dict[str, Target]:
    """The target of each of the source's modules that a rule maps to a module of ours.

    Args:
      kinds: "conv", "norm", "dense" or "" by module.
      rules: the source's.
      paths: of our arrays.
    """
    blocks = _list_blocks(paths)
    layers = {path.rpartition("/")[0].removeprefix("params/") for path in paths}
    targets = {}
    members: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
    for module, target in match_rules(kinds, rules).items():
        path = target.path + (kinds[module] if target.path.endswith("/") else "")
        targets[module] = target._replace(path=path)
        members[_rank_group(path, kinds[module])].add(target.block)
    ranked = {group: sorted(found) for group, found in members.items()}
    for module, target in list(targets.items()):
        path, mark = target.path, "*" if "*" in target.path else "#"
        if mark not in path:
            continue
        candidates = [b for b in blocks if mark == "#" or path.replace(mark, b) in layers]
        rank = ranked[_rank_group(path, kinds[module])].index(target.block)
        if not kinds[module] or rank >= len(candidates):
            del targets[module]  # the model has fewer
        else:
            targets[module] = target._replace(path=path.replace(mark, candidates[rank]))
    return targets


def _rank_group(path: str, kind: str) -> str:
    """What a block is ranked among: all of its kind ("#"), or all with the same path ("*")."""
    return path if "*" in path else f"#{kind}" if "#" in path else ""


# All models of the zoo name their blocks so; a stage of VGG's consists of plain convolutions, and a
# detector's blocks are in its backbone.
_BLOCK = re.compile(r"params/((?:backbone/)?stage(\d+)/(?:block|conv)(\d+))/")


def _list_blocks(paths: Iterable[str]) -> list[str]:
    """The paths of all blocks of a model in order, such as "stage2/block3"."""
    matches = filter(None, map(_BLOCK.match, paths))
    numbers = {(int(match[2]), int(match[3])): match[1] for match in matches}
    return [path for _, path in sorted(numbers.items())]
