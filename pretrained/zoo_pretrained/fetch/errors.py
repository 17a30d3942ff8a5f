"""What can go wrong with a download, each in one line and without anybody's credentials."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FetchError(Exception):
    """A file that could not be fetched; one line that says which, and why."""


class OfflineError(FetchError):
    """A file that is needed and not there, while ZOO_OFFLINE forbids to fetch it."""


class DigestError(FetchError):
    """A file that is not what was published; names both digests, and where it was kept."""


def format_bytes(count: int) -> str:
    """A number of bytes for people: 512 bytes, 20.5 MB."""
    if count < 1000:
        return f"{count} bytes"
    power = next((power for power in (1, 2) if count < 999.95 * 1000**power), 3)
    return f"{count / 1000**power:.1f} {('kB', 'MB', 'GB')[power - 1]}"


@contextmanager
def place(folder: Path, needed: int | None = None) -> Iterator[None]:
    """Turns what the file system complains of into a FetchError that names the folder.

    Args:
      folder: where the files are.
      needed: the bytes that are to be written.
    """
    try:
        yield
    except OSError as error:
        raise FetchError(
            f"{_complaint(folder, error, needed)}; ZOO_CACHE chooses another place"
        ) from error


def room(folder: Path, needed: int) -> None:
    """Raises FetchError if the disk of a folder has no room for so many bytes."""
    with place(folder, needed):
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _complaint(folder: Path, error: OSError, needed: int | None) -> str:
    """What is wrong, and with which folder."""
    match error.errno:
        case errno.ENOENT:
            return f"{error.filename or folder} does not exist"
        case errno.ENOSPC:
            reason = f"the disk is full; {_space(folder, needed)}"
        case errno.EDQUOT:
            reason = f"the quota is used up; {_space(folder, needed)}"
        case errno.EROFS:
            reason = "it is read-only"
        case errno.EACCES | errno.EPERM:
            reason = "permission denied"
        case errno.ENOTDIR | errno.EEXIST:
            reason = "a part of this path is a file, not a folder"
        case _:
            reason = error.strerror or type(error).__name__
    return f"{folder} cannot be used: {reason}"


def _space(folder: Path, needed: int | None) -> str:
    try:
        free = f"{format_bytes(shutil.disk_usage(folder).free)} free"
    except OSError:
        free = "what is free is not known"
    return free if needed is None else f"{format_bytes(needed)} needed, {free}"
