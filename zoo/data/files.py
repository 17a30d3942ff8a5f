"""Images and folders on disk, as data sets list them."""

import os
from collections.abc import Iterable
from pathlib import Path

from zoo.data.dataset import DatasetError
from zoo.inference.images import extensions
from zoo_pretrained.addresses import expand_home
from zoo_pretrained.natural_order import natural_key

# NumPy's files, for images of other numbers of channels than files of photos have.
ARRAY_ENDING = ".npy"


def check_folder(folder: str | os.PathLike[str]) -> str:
    """The path of a folder that can be read, "~" expanded; DatasetError for anything else."""
    path = str(expand_path(folder))
    _scan(path)
    return path


def expand_path(path: str | os.PathLike[str]) -> Path:
    """A path without "~"; DatasetError where that is nobody's home."""
    try:
        return expand_home(os.fspath(path))
    except FileNotFoundError as error:
        raise DatasetError(error) from None


def list_folders(folder: str) -> list[str]:
    """The names of a folder's folders, in natural order; hidden ones are left out."""
    names = [entry.name for entry in _scan(folder) if entry.is_dir()]
    return sorted((name for name in names if not name.startswith(".")), key=natural_key)


def list_images(folder: str, *, below: bool = True) -> list[str]:
    """The paths of a folder's photos and `.npy` arrays, sorted.

    These are the photos that `zoo.inference.images.find_photos` finds: hidden files and folders are
    left out, and links followed, to each folder once. Unlike there the kind of an entry is what the
    folder says of it, as to ask each file takes minutes for a million on a network's disk.

    Args:
      folder: where to look.
      below: whether to look in the folders below it, too.

    Raises:
      DatasetError: a folder cannot be read.
    """
    endings = (*extensions(), ARRAY_ENDING)
    found: list[str] = []
    visited: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        state = Path(current).stat()
        if (state.st_dev, state.st_ino) in visited:
            continue
        visited.add((state.st_dev, state.st_ino))
        for entry in _scan(current):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                waiting += [entry.path] if below else []
            elif entry.name.lower().endswith(endings) and not _is_special(entry):
                found.append(entry.path)
    return sorted(found)


def list_some(names: Iterable[str], most: int = 3) -> str:
    """The first of some names as a text, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        raise DatasetError(f"{folder} does not exist; a folder of images is needed") from None
    except NotADirectoryError:
        raise DatasetError(f"{folder} is a file; a folder of images is needed") from None
    except (OSError, ValueError) as error:  # ValueError: a text that cannot be a path
        cause = getattr(error, "strerror", None) or error
        raise DatasetError(f"{folder} cannot be read: {cause}") from error


def _is_special(entry: os.DirEntry[str]) -> bool:
    """Whether it is a pipe, a device or a socket; a broken link is a file that cannot be read."""
    return not entry.is_file() and Path(entry.path).exists()
