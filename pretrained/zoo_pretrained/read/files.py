"""A file's bytes as one read-only array, and limits on what is read from it."""

import io
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo_pretrained.printable import OneLineError, printable

# Limits of what a file may declare: 16 GiB of arrays, and 64 times its own size. So a file of 10 MB
# takes at most 640 MB, twice for a moment where it is inflated; weights hardly compress.
LIMIT = 16 << 30
RATIO = 64
SMALL = 1 << 20  # bytes that any file may declare
# Bytes of text or of a pickle, which are parsed in memory.
TEXT_LIMIT = 64 << 20
MAX_RANK = 32  # axes of an array
# Limits of an array's name: characters, and parts between "." or "/".
MAX_NAME, MAX_DEPTH = 1000, 64


class ReadError(OneLineError, ValueError):
    """A file of weights that cannot be read; the message is one line: path and reason."""


class UnreadableError(Exception):
    """The reason why a file cannot be read, to follow its path, such as "names os.system"."""


class ByteBudget:
    """The number of bytes of arrays that a file may still declare.

    Args:
      size: the file's own, in bytes.
    """

    def __init__(self, size: int) -> None:
        self.left = min(LIMIT, max(SMALL, RATIO * size))

    def take(self, nbytes: int, name: str) -> None:
        """Subtracts an array's bytes; raises UnreadableError where too few are left."""
        self.left -= nbytes
        if self.left < 0:
            raise UnreadableError(
                f"declares more than {LIMIT >> 30} GiB, or {RATIO} times its own size, at {name!r}"
            )


class ByteStream(io.RawIOBase):
    """An array of bytes as a stream, for libraries that read files.

    Args:
      data: one-dimensional uint8.
    """

    def __init__(self, data: np.ndarray) -> None:
        self._bytes = data.data
        self._at = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves, and returns the position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._bytes)}[whence]
        if start + offset < 0:
            raise ValueError("a position before the start")
        self._at = start + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """At most `size` bytes, as far as there are."""
        end = None if size is None or size < 0 else self._at + size
        found = bytes(self._bytes[self._at : end])
        self._at += len(found)
        return found

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer, with zeros beyond the end: HDF5 ignores how much was read."""
        found = self.read(len(buffer))
        buffer[:] = found.ljust(len(buffer), b"\0")
        return len(found)


def map_file(path: str | os.PathLike[str]) -> np.ndarray:
    """The file's bytes, memory-mapped and read-only.

    Raises:
      UnreadableError: it is missing, empty, not a file, or cannot be opened.
    """
    file = Path(path)
    try:
        if file.is_dir():
            raise UnreadableError("is a folder, not a file of weights")
        if not file.is_file():
            raise UnreadableError("is not there, or not a file")
        if file.stat().st_size == 0:
            raise UnreadableError("is empty")
        return np.memmap(file, np.uint8, "r")
    except OSError as error:
        raise UnreadableError(f"cannot be opened: {error.strerror}") from error


def view(
    data: np.ndarray,
    dtype: np.dtype,
    shape: Sequence[int],
    start: int,
    strides: Sequence[int] | None = None,
) -> np.ndarray:
    """A read-only array over bytes, without a copy.

    Args:
      data: one-dimensional uint8.
      dtype: of the result.
      shape: of the result.
      start: the byte at which it begins.
      strides: in bytes; C order by default.

    Raises:
      UnreadableError: part of it lies outside the bytes.
    """
    if len(shape) > MAX_RANK:
        raise UnreadableError(f"has an array of {len(shape)} axes; {MAX_RANK} are the limit")
    shape = tuple(shape)
    if strides is None:
        strides = [dtype.itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    if min(start, *shape, *strides, 0) < 0 or len(shape) != len(strides):
        raise UnreadableError(f"has an array of shape {list(shape)} and strides {list(strides)}")
    if 0 in shape:
        empty = np.zeros(shape, dtype)
        empty.flags.writeable = False
        return empty
    steps = zip(shape, strides, strict=True)
    end = start + sum((count - 1) * stride for count, stride in steps) + dtype.itemsize
    if end > len(data):
        raise UnreadableError(
            f"is cut short: an array of shape {list(shape)} ends at byte {end} of {len(data)}"
        )
    return np.ndarray(shape, dtype, data, start, tuple(strides))


def check_name(name: str) -> str:
    """Returns an array's name, or the start of one.

    Raises:
      UnreadableError: it is longer, or has more parts, than any model's: matching rules with it,
        and building the names below it, could take for ever.
    """
    if len(name) > MAX_NAME:
        raise UnreadableError(
            f"has a name of {len(name)} characters, more than {MAX_NAME}: {printable(name, 80)!r}"
        )
    if name.count("/") + name.count(".") > MAX_DEPTH:
        raise UnreadableError(f"is nested deeper than {MAX_DEPTH}, at {printable(name, 80)!r}")
    return name


def list_some(names: Iterable[str]) -> str:
    """The first names of a list for a message, and how many more there are."""
    listed = list(names)
    shown = ", ".join(printable(name, 80) for name in listed[:10])
    return shown + (f" and {len(listed) - 10} more" if len(listed) > 10 else "")
