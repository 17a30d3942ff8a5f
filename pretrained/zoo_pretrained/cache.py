"""The user's cache: checkpoints that were fetched, downloads in progress, compiled programs."""

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

from zoo_pretrained.addresses import expand_home
from zoo_pretrained.checkpoint import CHECKSUMS
from zoo_pretrained.fetch.errors import SettingError
from zoo_pretrained.fetch.files import hold_lock

# What jax and XLA keep of compiled programs, and the library of the native layers.
_COMPILED = re.compile(
    r".+-(cache|atime)|\.lockfile|xla_gpu_.+|native-[0-9a-f]{16}\.so|\.native-[a-z0-9_]{8}"
)


class CacheItem(NamedTuple):
    """A file or folder in the cache.

    Args:
      name: "ResNet50-IMAGENET1K_V2" for a checkpoint; otherwise the file's or folder's name.
      kind: "checkpoint", "damaged" (quarantined or unfinished), "download" (partial, or kept
        because its digest was wrong), or "compiled" programs.
      path: the file or folder.
      size: in bytes.
    """

    name: str
    kind: str
    path: Path
    size: int


def folder() -> Path:
    """Returns `$ZOO_CACHE`, or the platform's folder for caches; it may not exist yet.

    Raises:
      SettingError: it is the home of a user who does not exist.
    """
    configured = os.environ.get("ZOO_CACHE")
    if not configured:
        return platformdirs.user_cache_path("jax-zoo")
    try:
        return expand_home(configured)
    except FileNotFoundError as error:
        raise SettingError(f"ZOO_CACHE must be a folder, got {configured!r}: {error}") from error


def checkpoint_path(name: str) -> Path:
    """Returns the path of a cached checkpoint, whether it exists or not."""
    return folder() / "checkpoints" / name


def download_path(name: str) -> Path:
    """Returns the path that a file is downloaded to."""
    return folder() / "downloads" / name


def has_checkpoint(path: Path) -> bool:
    """Whether a checkpoint was completely written to this path; it may be damaged since."""
    return (path / CHECKSUMS).is_file()


def find_by_archive(name: str) -> list[Path]:
    """Finds the checkpoints that were loaded from an archive's address: one for each version.

    Args:
      name: the archive's file name without ".tar".
    """
    checkpoints = folder() / "checkpoints"
    pattern = re.escape(name) + "-[0-9a-f]{16}"
    return [path for path in checkpoints.glob("*-*") if re.fullmatch(pattern, path.name)]


@contextlib.contextmanager
def use_download(path: Path) -> Iterator[None]:
    """Holds a download from before it is fetched until it is used, so that `prune` leaves it.

    `fetch` holds its own lock only while it runs.
    """
    with hold_lock(path.with_name(f"{path.name}.use")):
        yield


def quarantine(path: Path) -> Path:
    """Renames a damaged checkpoint, so that it is kept but not used; returns the new path."""
    number = 1
    while (target := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return path.rename(target)


def items(patterns: Sequence[str] = ("*",)) -> list[CacheItem]:
    """Lists what is in the cache, by kind and name.

    Args:
      patterns: shell patterns for names, in any case.
    """
    found = [
        CacheItem(path.name, "checkpoint" if _is_complete(path) else "damaged", path, _size(path))
        for path in _list_folder("checkpoints")
    ]
    found += [
        CacheItem(path.name, "download", path, _size(path)) for path in _list_folder("downloads")
    ]
    compiled = folder() / "compiled"
    if compiled.is_dir() and all(_COMPILED.fullmatch(path.name) for path in compiled.iterdir()):
        found.append(CacheItem(compiled.name, "compiled", compiled, _size(compiled)))
    lower = [pattern.lower() for pattern in patterns]
    return [i for i in found if any(fnmatch.fnmatchcase(i.name.lower(), p) for p in lower)]


def prune(patterns: Sequence[str] = ()) -> list[CacheItem]:
    """Removes items with a matching name; without patterns, all items but checkpoints.

    What another process is fetching at this moment stays.

    Returns:
      The removed items.
    """
    found = items(patterns) if patterns else [i for i in items() if i.kind != "checkpoint"]
    return [item for item in found if _remove_unlocked(item.path)]


def remove_leftovers(path: Path) -> None:
    """Removes what killed processes left beside a checkpoint, whose lock must be held."""
    for sibling in path.parent.glob(".*"):
        if _checkpoint_in_progress(sibling.name) == path.name:
            _remove(sibling)


def _is_complete(path: Path) -> bool:
    return has_checkpoint(path) and ".damaged-" not in path.name


def _list_folder(name: str) -> Iterator[Path]:
    """Lists what the zoo has put into a folder of the cache, leftovers of killed processes too.

    The lock that it held meanwhile is still beside it. What has none is somebody else's: ZOO_CACHE
    may be a folder in which there are others of these names.
    """
    parent = folder() / name
    for path in sorted(parent.iterdir()) if parent.is_dir() else []:
        if path.suffix != ".lock" and _lock_path(path).exists():
            yield path


def _lock_path(path: Path) -> Path:
    """The lock of the checkpoint or download that a file or folder belongs to.

    A partial, bad or damaged one has the lock of its target, and so has an unfinished checkpoint.
    """
    target = re.sub(r"(\.part(\.json)?|\.bad-[0-9a-f]{8}|\.damaged-\d+)$", "", path.name)
    return path.with_name(f".{_checkpoint_in_progress(path.name) or target}.lock")


def _size(path: Path) -> int:
    total = 0
    for file in path.rglob("*") if path.is_dir() else [path]:
        with contextlib.suppress(FileNotFoundError):  # another process removed it
            if not file.is_dir():
                total += file.lstat().st_size
    return total


def _checkpoint_in_progress(name: str) -> str | None:
    """The name of the checkpoint that is made in a temporary folder of this name, if any."""
    match = re.fullmatch(r"\.(.+)\.[a-z0-9_]{8}", name)
    return match[1] if match else None


def _remove_unlocked(path: Path) -> bool:
    """Removes a file or folder, unless another process holds its lock; returns whether it did."""
    from filelock import FileLock, Timeout

    lock = _lock_path(path)
    in_use = lock.with_name(f"{lock.stem}.use.lock")  # of `use_download`
    try:
        with FileLock(in_use, timeout=0), FileLock(lock, timeout=0):
            _remove(path)
    except Timeout:
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        # Renamed first: a folder that is half removed must not look like a checkpoint.
        hidden = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name.lstrip('.')}."))
        path.rename(hidden / "old")
        shutil.rmtree(hidden, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
