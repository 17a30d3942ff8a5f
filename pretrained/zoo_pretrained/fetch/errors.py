"""Errors of downloads, each a single line that contains no credentials."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo_pretrained.printable import OneLineError


class FetchError(OneLineError):
    """A file could not be downloaded; the message is one line that says which, and why."""


class SettingError(FetchError, ValueError):
    """An environment variable has a value that makes no sense; names it, and what it may be."""


class OfflineError(FetchError):
    """A file is missing, and ZOO_OFFLINE forbids downloading it."""


class UnreachableError(FetchError):
    """A server cannot be reached, or does not deliver, however often it is tried."""


class DigestError(FetchError):
    """A file is not what was published; names both digests, and where the file was kept."""


def format_bytes(count: int) -> str:
    """Formats a number of bytes for people: 512 bytes, 20.5 MB."""
    if count < 1000:
        return f"{count} bytes"
    power = next((power for power in (1, 2) if count < 999.95 * 1000**power), 3)
    return f"{count / 1000**power:.1f} {('kB', 'MB', 'GB')[power - 1]}"


@contextmanager
def translate_os_errors(folder: Path, needed: int | None = None) -> Iterator[None]:
    """Raises each OSError inside the `with` block as a FetchError that names the folder.

    Args:
      folder: where the files are.
      needed: how many bytes are to be written.
    """
    try:
        yield
    except OSError as error:
        raise FetchError(
            f"{_describe(folder, error, needed)}; ZOO_CACHE selects another folder"
        ) from error


def check_disk_space(folder: Path, needed: int) -> None:
    """Raises FetchError if the disk that a folder is on has fewer than `needed` bytes free."""
    with translate_os_errors(folder, needed):
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _describe(folder: Path, error: OSError, needed: int | None) -> str:
    """Says what is wrong with which folder."""
    match error.errno:
        case errno.ENOENT:
            return f"{error.filename or folder} does not exist"
        case errno.ENOSPC:
            reason = f"the disk is full; {_describe_space(folder, needed)}"
        case errno.EDQUOT:
            reason = f"the quota is used up; {_describe_space(folder, needed)}"
        case errno.EROFS:
            reason = "it is read-only"
        case errno.EACCES | errno.EPERM:
            reason = "permission denied"
        case errno.ENOTDIR | errno.EEXIST:
            reason = "a part of this path is a file, not a folder"
        case _:
            reason = error.strerror or type(error).__name__
    return f"{folder} cannot be used: {reason}"


def _describe_space(folder: Path, needed: int | None) -> str:
    try:
        free = f"{format_bytes(shutil.disk_usage(folder).free)} free"
    except OSError:
        free = "the free space is not known"
    return free if needed is None else f"{format_bytes(needed)} needed, {free}"
