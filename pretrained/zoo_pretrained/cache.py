"""The user's cache: checkpoints that were fetched, and what is on its way there."""

import contextlib
import fnmatch
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import platformdirs

from zoo_pretrained.checkpoint import SUMS


class Item(NamedTuple):
    """Something in the cache.

    Args:
      name: "ResNet50-IMAGENET1K_V2" for a checkpoint, else the file's or folder's.
      kind: "checkpoint", "damaged" (kept aside), "download" (partial, or kept aside), or
        "compiled" programs.
      path: the file or folder.
      size: in bytes.
    """

    name: str
    kind: str
    path: Path
    size: int


def folder() -> Path:
    """`$ZOO_CACHE`, or the folder that the platform keeps for caches; it may not exist yet."""
    chosen = os.environ.get("ZOO_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("jax-zoo")


def checkpoint(name: str) -> Path:
    """Where the checkpoint of that name is, or would be."""
    return folder() / "checkpoints" / name


def download(name: str) -> Path:
    """Where a file of that name is fetched to."""
    return folder() / "downloads" / name


def holds(path: Path) -> bool:
    """Whether a checkpoint is there, damaged or not: it appeared whole."""
    return (path / SUMS).is_file()


def fetched(name: str) -> list[Path]:
    """Where a checkpoint that was loaded by its archive's address is: none, or one a version."""
    place = folder() / "checkpoints"
    return [p for p in place.glob("*-*") if re.fullmatch(re.escape(name) + "-[0-9a-f]{16}", p.name)]


def set_aside(path: Path) -> Path:
    """Renames a damaged checkpoint, so that it is not used and not lost; returns where it is."""
    number = 1
    while (kept := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return path.rename(kept)


def items(patterns: Sequence[str] = ("*",)) -> list[Item]:
    """What is in the cache, by kind and name.

    Args:
      patterns: shell patterns for names; capitals do not matter.
    """
    found = [
        Item(path.name, "checkpoint" if _whole(path) else "damaged", path, _size(path))
        for path in _children("checkpoints")
    ]
    found += [Item(path.name, "download", path, _size(path)) for path in _children("downloads")]
    compiled = folder() / "compiled"
    if compiled.is_dir():
        found.append(Item(compiled.name, "compiled", compiled, _size(compiled)))
    lower = [pattern.lower() for pattern in patterns]
    return [i for i in found if any(fnmatch.fnmatchcase(i.name.lower(), p) for p in lower)]


def prune(patterns: Sequence[str] = ()) -> list[Item]:
    """Removes what has a matching name; without patterns, all but checkpoints.

    What another process is fetching just now is left alone.

    Returns:
      What was removed.
    """
    found = items(patterns) if patterns else [i for i in items() if i.kind != "checkpoint"]
    return [item for item in found if _removed(item.path)]


def sweep(path: Path) -> None:
    """Removes what killed processes left beside a checkpoint; its lock must be held."""
    for left in path.parent.glob(".*"):
        if _workshop_of(left.name) == path.name:
            _remove(left)


def _whole(path: Path) -> bool:
    return holds(path) and ".damaged-" not in path.name


def _children(name: str) -> Iterator[Path]:
    """Files and folders, without locks; workshops of killed processes too."""
    place = folder() / name
    for path in sorted(place.iterdir()) if place.is_dir() else []:
        if path.suffix != ".lock":
            yield path


def _size(path: Path) -> int:
    total = 0
    for file in path.rglob("*") if path.is_dir() else [path]:
        with contextlib.suppress(FileNotFoundError):  # another process is at work
            if not file.is_dir():
                total += file.lstat().st_size
    return total


def _workshop_of(name: str) -> str | None:
    """Of the folder in which a checkpoint is made, as tempfile names it: the checkpoint's name."""
    match = re.fullmatch(r"\.(.+)\.[a-z0-9_]{8}", name)
    return match[1] if match else None


def _removed(path: Path) -> bool:
    """Removes something unless a process is at work on it."""
    from filelock import FileLock, Timeout

    # A partial download has the lock of what it will be, and so has an unfinished checkpoint.
    name = _workshop_of(path.name) or re.sub(r"\.part(\.json)?$", "", path.name)
    try:
        with FileLock(path.with_name(f".{name}.lock"), timeout=0):
            _remove(path)
    except Timeout:
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        # First out of sight: a folder that is half removed must not look like a checkpoint.
        hidden = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name.lstrip('.')}."))
        path.rename(hidden / "old")
        shutil.rmtree(hidden, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
