"""Safe downloads: whole and verified, or not there.

A file comes under another name, "<target>.part", beside its target, and takes its place only when
its digest is the published one. Whatever breaks off, a later call goes on where it ended.
"""

import os
import random
import time
from pathlib import Path

from zoo_pretrained.fetch import http, partial
from zoo_pretrained.fetch.errors import DigestError, FetchError, OfflineError, format_bytes, place
from zoo_pretrained.fetch.files import Digest, digests, held, locked, settle, verify
from zoo_pretrained.fetch.http import RetryError
from zoo_pretrained.fetch.partial import Partial, Source
from zoo_pretrained.fetch.progress import Progress, bar

__all__ = [
    "Digest",
    "DigestError",
    "FetchError",
    "OfflineError",
    "Progress",
    "bar",
    "fetch",
    "fetch_unverified",
    "locked",
    "offline",
    "verify",
]

TRIES = 5
# An attempt that brings so much is no failure of the ones before it: large files on bad lines.
STRIDE = 1 << 20
# Seconds: before the second try, before any, and what a server's Retry-After may ask for.
BACKOFF = 0.5
LONGEST_BACKOFF = 8.0
LONGEST_WISH = 30.0


def offline() -> bool:
    """Whether ZOO_OFFLINE forbids downloads."""
    return os.environ.get("ZOO_OFFLINE", "") not in ("", "0")


def fetch(
    url: str,
    target: Path,
    *,
    digest: Digest,
    size: int | None = None,
    progress: Progress | None = None,
    token: str | None = None,
) -> str:
    """Downloads a file, verifies it, and gives it its name; if it is there already, only that.

    Several processes may ask for the same target: one of them downloads, the others wait.

    Args:
      url: of https or http. Its user and password go to its host alone.
      target: the file to make.
      digest: what it must have.
      size: its bytes, where known.
      progress: told the bytes so far and those of the whole.
      token: a bearer's, instead of user and password. It goes to the URL's origin alone.

    Returns:
      Its SHA-256.

    Raises:
      OfflineError: ZOO_OFFLINE is set, and the file is not there.
      DigestError: it is not what was published.
      FetchError: it cannot be had, or not be kept.
    """
    http.split(url)
    # A cache that cannot be written to must do, so this needs no lock.
    if sha256 := held(target, digest):
        return sha256
    source = Source(url, size, partial.LIMIT, token)
    _refuse_offline(source, target)
    with locked(target):
        if sha256 := held(target, digest):
            return sha256
        part = Partial(target)
        doubtful = _complete(source, part, progress)
        if doubtful and not digest.fits(digests(part.path, digest.algorithm)[1]):
            part.drop()
            _complete(source, part, progress)
        try:
            return settle(part.path, digest, target, source.shown)
        finally:
            if not part.length():  # the bytes have their name, or are kept aside: now the note
                part.drop()


def fetch_unverified(url: str, target: Path, most: int) -> None:
    """Downloads a small file that nobody has published a digest of, such as a list of digests.

    It is always asked for, and in one piece: what no digest verifies is not put together.

    Args:
      url: of https or http. Its user and password go to its host alone.
      target: the file to make, or to replace.
      most: the bytes that it may have.

    Raises:
      OfflineError: ZOO_OFFLINE is set.
      FetchError: it cannot be had, or not be kept, or is larger.
    """
    http.split(url)
    source = Source(url, most=most)
    _refuse_offline(source, target)
    with locked(target):
        part = Partial(target)
        _complete(source, part, resumes=False)
        with place(target.parent):
            part.path.replace(target)
        part.drop()


def _refuse_offline(source: Source, target: Path) -> None:
    if offline():
        amount = "" if source.size is None else f" ({format_bytes(source.size)})"
        raise OfflineError(f"ZOO_OFFLINE is set: {source.shown}{amount} is not fetched to {target}")


def _complete(
    source: Source, part: Partial, progress: Progress | None = None, resumes: bool = True
) -> bool:
    """Tries until the partial file is whole; what `receive` returns."""
    tries, longest = 0, part.length()
    while True:
        if not resumes:
            part.drop()
        try:
            return partial.receive(source, part, progress)
        except RetryError as failure:
            tries += 1
            if resumes and (now := part.length()) >= longest + STRIDE:
                tries, longest = 1, now
            if tries == TRIES:
                raise FetchError(
                    f"{source.shown} cannot be fetched: {failure} ({TRIES} tries)"
                ) from None
            pause(tries, failure.after)


def pause(tries: int, wish: float = 0) -> None:
    """Waits before the next try: longer each time, and not as long as all others do.

    Args:
      tries: those that have failed.
      wish: the seconds that the server asked for.
    """
    seconds = min(BACKOFF * 2 ** (tries - 1), LONGEST_BACKOFF) * random.uniform(0.5, 1)
    time.sleep(max(min(wish, LONGEST_WISH), seconds))
