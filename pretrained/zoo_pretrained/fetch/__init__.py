"""Verified downloads: a target file is complete and matches its published digest, or is not there.

Bytes arrive in "<target>.part" beside the target, which is renamed once its digest is verified. An
interrupted download is resumed by the next call.
"""

import os
import random
import time
from pathlib import Path

from zoo_pretrained.fetch import http, partial
from zoo_pretrained.fetch.errors import (
    DigestError,
    FetchError,
    OfflineError,
    SettingError,
    UnreachableError,
    format_bytes,
    translate_os_errors,
)
from zoo_pretrained.fetch.files import (
    Digest,
    compute_digests,
    hold_lock,
    verify,
    verify_and_move,
    verify_existing,
)
from zoo_pretrained.fetch.http import RetryError
from zoo_pretrained.fetch.partial import DownloadRequest, PartialFile
from zoo_pretrained.fetch.progress import Progress, progress_bar

__all__ = [
    "Digest",
    "DigestError",
    "FetchError",
    "OfflineError",
    "Progress",
    "SettingError",
    "UnreachableError",
    "fetch",
    "fetch_unverified",
    "hold_lock",
    "is_offline",
    "progress_bar",
    "verify",
]

_YES, _NO = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")
MAX_TRIES = 5
# A try that brings this many new bytes resets the count of failed tries: for large files on
# unreliable connections.
RESET_BYTES = 1 << 20
# Seconds: before the second try, the most before any, and the most that Retry-After may ask for.
BACKOFF = 0.5
MAX_BACKOFF = 8.0
MAX_RETRY_AFTER = 30.0


def is_offline() -> bool:
    """Whether ZOO_OFFLINE forbids downloads; SettingError where it says neither yes nor no."""
    text = os.environ.get("ZOO_OFFLINE", "")
    if text.strip().lower() not in (*_YES, *_NO):
        raise SettingError(
            f"ZOO_OFFLINE must be 1 for no downloads, or 0, got {text!r}; "
            f"{', '.join(_YES[1:])} and {', '.join(_NO[2:])} are understood, too"
        )
    return text.strip().lower() in _YES


def fetch(
    url: str,
    target: Path,
    *,
    digest: Digest,
    size: int | None = None,
    progress: Progress | None = None,
    token: str | None = None,
) -> str:
    """Downloads a file and verifies it; a target that exists already is only verified.

    Where several processes ask for the same target, one downloads it and the others wait.

    Args:
      url: of https or http. Its user and password are sent to its host only.
      target: the file to make.
      digest: the file's expected digest.
      size: the file's size in bytes, if known.
      progress: called with the bytes so far and the total.
      token: a bearer token, sent to the URL's origin only, in place of user and password.

    Returns:
      The file's SHA-256.

    Raises:
      OfflineError: ZOO_OFFLINE is set, and the file is not there.
      DigestError: the file is not what was published.
      FetchError: the file cannot be downloaded, or cannot be written.
    """
    http.split_url(url)
    # Without the lock, so that a read-only cache works.
    if sha256 := verify_existing(target, digest):
        return sha256
    request = DownloadRequest(url, size, partial.MAX_BYTES, token)
    _check_online(request, target)
    with hold_lock(target):
        if sha256 := verify_existing(target, digest):
            return sha256
        part = PartialFile(target)
        unreliable = _download(request, part, progress)
        if unreliable and not digest.matches(compute_digests(part.path, digest.algorithm)[1]):
            part.delete()
            _download(request, part, progress)
        try:
            return verify_and_move(part.path, digest, target, request.redacted_url)
        finally:
            if not part.size():  # the bytes were moved: remove what describes them
                part.delete()


def fetch_unverified(url: str, target: Path, max_bytes: int) -> None:
    """Downloads a small file that has no published digest, such as a list of digests.

    It is always downloaded anew and in one response: without a digest, nothing would verify a file
    that is put together from several.

    Args:
      url: of https or http. Its user and password are sent to its host only.
      target: the file to make or to replace.
      max_bytes: the largest size allowed.

    Raises:
      OfflineError: ZOO_OFFLINE is set.
      FetchError: the file cannot be downloaded, cannot be written, or is larger.
    """
    http.split_url(url)
    request = DownloadRequest(url, max_bytes=max_bytes)
    _check_online(request, target)
    with hold_lock(target):
        part = PartialFile(target)
        _download(request, part, resume=False)
        with translate_os_errors(target.parent):
            part.path.replace(target)
        part.delete()


def _check_online(request: DownloadRequest, target: Path) -> None:
    """Raises OfflineError if ZOO_OFFLINE is set."""
    if is_offline():
        amount = "" if request.size is None else f" ({format_bytes(request.size)})"
        raise OfflineError(
            f"ZOO_OFFLINE is set: {request.redacted_url}{amount} is not fetched to {target}"
        )


def _download(
    request: DownloadRequest,
    part: PartialFile,
    progress: Progress | None = None,
    resume: bool = True,
) -> bool:
    """Retries `partial.try_download` until the file is complete, and returns what that does."""
    tries, longest = 0, part.size()
    while True:
        if not resume:
            part.delete()
        try:
            return partial.try_download(request, part, progress)
        except RetryError as failure:
            tries += 1
            if resume and (size := part.size()) >= longest + RESET_BYTES:
                tries, longest = 1, size
            if tries == MAX_TRIES:
                raise UnreachableError(
                    f"{request.redacted_url} cannot be fetched: {failure} ({MAX_TRIES} tries)"
                ) from None
            wait_before_retry(tries, failure.retry_after)


def wait_before_retry(tries: int, retry_after: float = 0) -> None:
    """Sleeps before the next try: longer after each failure, by a random factor.

    Args:
      tries: the number of tries that have failed.
      retry_after: the seconds that the server asked for.
    """
    seconds = min(BACKOFF * 2 ** (tries - 1), MAX_BACKOFF) * random.uniform(0.5, 1)
    time.sleep(max(min(retry_after, MAX_RETRY_AFTER), seconds))
