"""Local files: digests, locks, and moving a verified download into place."""

import hashlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from zoo_pretrained.fetch.errors import DigestError, translate_os_errors

# The number of hexadecimal digits of a complete digest.
DIGEST_LENGTHS = {"sha256": 64, "md5": 32, "git-sha1": 40}
# torchvision publishes 8 digits; with fewer, a wrong file could match by chance.
MIN_DIGITS = 8

CHUNK_BYTES = 1 << 20
# Seconds of waiting for another process's lock before a message says so.
LOCK_MESSAGE_DELAY = 2.0


@dataclass(frozen=True)
class Digest:
    """A digest of a file, as its publisher gives it.

    Args:
      algorithm: "sha256", "md5", or "git-sha1", which is git's name of a blob.
      value: hexadecimal digits; the first 8 or more are enough.

    Raises:
      ValueError: the algorithm is another one, or the value is not a digest of it.
    """

    algorithm: str
    value: str

    def __post_init__(self) -> None:
        if self.algorithm not in DIGEST_LENGTHS:
            raise ValueError(
                f"algorithm must be one of {list(DIGEST_LENGTHS)}, got {self.algorithm!r}"
            )
        length = DIGEST_LENGTHS[self.algorithm]
        if not re.fullmatch(rf"[0-9a-fA-F]{{{MIN_DIGITS},{length}}}", self.value):
            raise ValueError(
                f"value must be {MIN_DIGITS} to {length} hexadecimal digits for "
                f"{self.algorithm}, got {self.value!r}"
            )

    def matches(self, found: str) -> bool:
        """Whether a complete digest, in lower case, begins with this one."""
        return found.startswith(self.value.lower())

    def describe_mismatch(self, found: str) -> str:
        """The part of an error message that names both digests of a file that does not match."""
        return f"has the {self.algorithm} {found}, expected {self.value}"


def verify(path: Path, digest: Digest, name: str | None = None) -> str:
    """Compares a file with its digest, and returns its SHA-256.

    Args:
      path: the file.
      digest: the expected digest.
      name: the file's name in an error message; the path by default.

    Raises:
      DigestError: the file has another digest. It stays where it is.
      FetchError: the file cannot be read.
    """
    sha256, found = compute_digests(path, digest.algorithm)
    if not digest.matches(found):
        raise DigestError(f"{name or path} {digest.describe_mismatch(found)}")
    return sha256


def compute_digests(path: Path, algorithm: str) -> tuple[str, str]:
    """Returns a file's SHA-256 and its digest by another algorithm, reading the file once."""
    with translate_os_errors(path.parent), path.open("rb") as stream:
        hashes = {"sha256": hashlib.sha256()}
        if algorithm == "md5":
            hashes["md5"] = hashlib.md5(usedforsecurity=False)
        elif algorithm == "git-sha1":
            size = os.fstat(stream.fileno()).st_size
            hashes["git-sha1"] = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        while chunk := stream.read(CHUNK_BYTES):
            for each in hashes.values():
                each.update(chunk)
    return hashes["sha256"].hexdigest(), hashes[algorithm].hexdigest()


def verify_existing(path: Path, digest: Digest) -> str | None:
    """Returns a file's SHA-256, or None if there is no such file or its digest differs."""
    with translate_os_errors(path.parent):
        if not path.is_file():
            return None
    sha256, found = compute_digests(path, digest.algorithm)
    return sha256 if digest.matches(found) else None


def verify_and_move(path: Path, digest: Digest, target: Path, name: str) -> str:
    """Moves a complete download to its target if it verifies; otherwise keeps it as a bad file.

    Args:
      path: the download.
      digest: the expected digest.
      target: where it goes; a file that is there is replaced.
      name: the download's name in an error message.

    Returns:
      Its SHA-256.

    Raises:
      DigestError: it does not verify, and is now "<target>.bad-" and the first digits found.
      FetchError: the target cannot be written.
    """
    sha256, found = compute_digests(path, digest.algorithm)
    with translate_os_errors(target.parent):
        if not digest.matches(found):
            with path.open("rb") as stream:
                start = stream.read(64).lstrip().lower()
            is_page = start.startswith((b"<!doctype html", b"<html"))
            hint = "; it looks like a web page" if is_page else ""
            bad = target.with_name(f"{target.name}.bad-{found[:MIN_DIGITS]}")
            path.replace(bad)
            raise DigestError(
                f"{name} {digest.describe_mismatch(found)}{hint}; it was kept as {bad}"
            )
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
def hold_lock(path: Path) -> Iterator[None]:
    """Holds the lock of a path during the `with` block; waits until no one else holds it.

    The lock is a file beside the path, ".<name>.lock", which stays. It excludes other processes
    and other threads, and is not reentrant; `fetch` takes the lock of its target.

    Raises:
      FetchError: the lock cannot be written.
    """
    from filelock import FileLock, Timeout

    with translate_os_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.parent / f".{path.name}.lock")
        try:
            lock.acquire(timeout=LOCK_MESSAGE_DELAY)
        except Timeout:
            message = f"another process is using {path}; waiting for it\n"
            print(message, end="", file=sys.stderr)  # in one piece, as other threads print too
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
