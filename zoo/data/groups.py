"""Which images belong together, so that no split parts them: of one patient, or copies."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

import numpy as np

from zoo.data.dataset import DatasetError

# "patient07" of "patient07_2.jpg" and of "patient07/left/2.jpg": what ends in the first number,
# where others follow.
_FIRST_OF_SEVERAL_NUMBERS = re.compile(r"(.*?\d)[-_. /].*\d")
_BLOCK_BYTES = 4096


def match_groups(names: Sequence[str], pattern: str | re.Pattern[str]) -> np.ndarray:
    r"""The group that each name tells [N], a text.

    Args:
      names: paths of images, relative to the folder of their class.
      pattern: a regular expression, found anywhere in the name, whose one group in parentheses is
        what images have in common: r"(patient\d+)".

    Raises:
      DatasetError: it is no such expression, or is not found in a name.
    """
    try:
        expression = re.compile(pattern)
    except (re.error, TypeError) as error:
        raise DatasetError(
            f"group must be a regular expression, got {pattern!r}: {error}"
        ) from None
    if expression.groups != 1:
        raise DatasetError(
            f"group must have one part in parentheses, such as (patient\\d+), got "
            f"{expression.pattern!r} with {expression.groups}"
        )
    groups = []
    for name in names:
        match = expression.search(name)
        if match is None or match[1] is None:
            raise DatasetError(
                f"group {expression.pattern!r} is not found in {name!r}; it must be found in the "
                "name of each image"
            )
        groups.append(match[1])
    return np.array(groups, str)


def guess_groups(names: Sequence[str], labels: np.ndarray) -> np.ndarray | None:
    """Groups of near-identical names [N], or None where names tell none.

    Names with several numbers ("patient07_1", "patient07_2", "patient07/left/1") that are alike up
    to the first of them are taken for one group. That is believed if in every class there are at
    least as many groups as images in one of them, on average: what begins all names, such as the
    class ("n01440764_10026") or a year, is no group.

    Args:
      names: paths of images, relative to the folder of their class.
      labels: the class number of each [N].
    """
    stems = [name.rpartition(".")[0] for name in names]
    matches = map(_FIRST_OF_SEVERAL_NUMBERS.match, stems)
    groups = _number(
        match[1] if match else stem for match, stem in zip(matches, stems, strict=True)
    )
    count = int(groups.max(initial=-1)) + 1
    images_of_class = np.bincount(labels)
    pairs = np.unique(labels.astype(np.int64) * count + groups)
    groups_of_class = np.bincount(pairs // max(count, 1), minlength=len(images_of_class))
    plausible = bool(np.all(groups_of_class**2 >= images_of_class))
    return groups if plausible and count < len(names) else None


def find_copies(paths: Sequence[str | os.PathLike[str]]) -> np.ndarray:
    """Numbers that files have in common whose bytes are equal [N].

    Only files of one size are opened, and only those that have a block in common are read.
    """
    keys: list[tuple[Hashable, ...]] = [(_or_path(_size, path),) for path in paths]
    for read in (_read_middle, _digest):
        counts = Counter(keys)
        keys = [
            (*key, _or_path(read, path)) if counts[key] > 1 else key
            for key, path in zip(keys, paths, strict=True)
        ]
    return _number(keys)


def join_groups(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Groups of all images that are linked by a group of either kind [N]."""
    kinds = [np.unique(groups, return_inverse=True)[1] for groups in (one, other)]
    joined = np.arange(len(one))
    while True:
        before = joined
        for groups in kinds:  # each image takes the lowest number in its group
            lowest = np.full(groups.max(initial=-1) + 1, len(one))
            np.minimum.at(lowest, groups, joined)
            joined = lowest[groups]
        if np.array_equal(before, joined):
            return joined


def _number(keys: Iterable[Hashable]) -> np.ndarray:
    """A number for each key, the same for equal ones."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], int)


def _or_path(read: Callable[[Path], Hashable], path: str | os.PathLike[str]) -> Hashable:
    """What is read of a file; of one that cannot be read its path, as it is like no other."""
    try:
        return read(Path(path))
    except OSError:
        return os.fspath(path)


def _size(path: Path) -> int:
    return path.stat().st_size


def _read_middle(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, (_size(path) - _BLOCK_BYTES) // 2))
        return file.read(_BLOCK_BYTES)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
