"""Files: their digests, their locks, and how one takes its place."""

import hashlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from zoo_pretrained.fetch.errors import DigestError, place

# The hexadecimal digits of a whole digest.
DIGITS = {"sha256": 64, "md5": 32, "git-sha1": 40}
# torchvision publishes 8; fewer would let chance pass.
FEWEST_DIGITS = 8

PIECE = 1 << 20
# Another process is worth a line only when it keeps one waiting.
PATIENCE = 2.0


@dataclass(frozen=True)
class Digest:
    """What a file's publisher says of its bytes.

    Args:
      algorithm: "sha256", "md5", or "git-sha1", git's name of a blob.
      value: hexadecimal digits; the first 8 or more of them will do.

    Raises:
      ValueError: another algorithm, or what is no digest of it.
    """

    algorithm: str
    value: str

    def __post_init__(self) -> None:
        if self.algorithm not in DIGITS:
            raise ValueError(f"algorithm must be one of {list(DIGITS)}, got {self.algorithm!r}")
        most = DIGITS[self.algorithm]
        if not re.fullmatch(rf"[0-9a-fA-F]{{{FEWEST_DIGITS},{most}}}", self.value):
            raise ValueError(
                f"value must be {FEWEST_DIGITS} to {most} hexadecimal digits for "
                f"{self.algorithm}, got {self.value!r}"
            )

    def fits(self, found: str) -> bool:
        """Whether a whole digest, in small letters, is this one."""
        return found.startswith(self.value.lower())

    def mismatch(self, found: str) -> str:
        """What an error says of a file that has another."""
        return f"has the {self.algorithm} {found}, expected {self.value}"


def verify(path: Path, digest: Digest, name: str | None = None) -> str:
    """Reads a file, compares it with its digest, and returns its whole SHA-256.

    Args:
      path: the file.
      digest: what it must have.
      name: what an error calls it; the path by default.

    Raises:
      DigestError: it has another digest. The file stays where it is.
      FetchError: it cannot be read.
    """
    sha256, found = digests(path, digest.algorithm)
    if not digest.fits(found):
        raise DigestError(f"{name or path} {digest.mismatch(found)}")
    return sha256


def digests(path: Path, algorithm: str) -> tuple[str, str]:
    """The SHA-256 of a file and its digest by another algorithm, in one reading."""
    with place(path.parent), path.open("rb") as stream:
        every = {"sha256": hashlib.sha256()}
        if algorithm == "md5":
            every["md5"] = hashlib.md5(usedforsecurity=False)
        elif algorithm == "git-sha1":
            size = os.fstat(stream.fileno()).st_size
            every["git-sha1"] = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        while piece := stream.read(PIECE):
            for each in every.values():
                each.update(piece)
    return every["sha256"].hexdigest(), every[algorithm].hexdigest()


def held(path: Path, digest: Digest) -> str | None:
    """The SHA-256 of a file that is there and verifies, or None."""
    with place(path.parent):
        if not path.is_file():
            return None
    sha256, found = digests(path, digest.algorithm)
    return sha256 if digest.fits(found) else None


def settle(path: Path, digest: Digest, target: Path, name: str) -> str:
    """Gives a whole file its name if it verifies, and keeps it aside if not.

    Returns:
      Its SHA-256.

    Raises:
      DigestError: it does not verify, and is now "<target>.bad-" and the first digits found.
      FetchError: the target cannot be written.
    """
    sha256, found = digests(path, digest.algorithm)
    with place(target.parent):
        if not digest.fits(found):
            with path.open("rb") as stream:
                start = stream.read(64).lstrip().lower()
            page = start.startswith((b"<!doctype html", b"<html"))
            looks = "; it looks like a web page" if page else ""
            bad = target.with_name(f"{target.name}.bad-{found[:FEWEST_DIGITS]}")
            path.replace(bad)
            raise DigestError(f"{name} {digest.mismatch(found)}{looks}; it was kept as {bad}")
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())
        path.replace(target)
        with suppress(OSError):  # Windows opens no folders, and some file systems sync none
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    return sha256


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of a path, for one process and thread at a time; waits for it.

    The lock is a file beside the path, ".<name>.lock", which stays. It does not let the same
    thread in twice, and `fetch` takes that of its target.

    Raises:
      FetchError: the lock cannot be written.
    """
    from filelock import FileLock, Timeout

    with place(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.parent / f".{path.name}.lock")
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            print(f"another process is at {path}; waiting for it", file=sys.stderr)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
