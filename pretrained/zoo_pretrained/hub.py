"""Verified downloads from the Hugging Face hub, which publishes a digest of each file.

huggingface_hub gives a file's address, and applies its own settings: HF_ENDPOINT, HF_TOKEN,
HF_HUB_OFFLINE and the rest. The file's digest and its bytes come by `fetch` like all others, with
its limits, and over plain HTTP, which the hub offers also for files that it stores in Xet.
"""

import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from zoo_pretrained.fetch import (
    MAX_TRIES,
    Digest,
    FetchError,
    OfflineError,
    Progress,
    UnreachableError,
    fetch,
    hold_lock,
    is_offline,
    wait_before_retry,
)
from zoo_pretrained.fetch.errors import translate_os_errors
from zoo_pretrained.fetch.files import verify_and_move, verify_existing
from zoo_pretrained.fetch.http import RETRYABLE_STATUSES, RetryError, open_url
from zoo_pretrained.fetch.partial import PartialFile


def fetch_from_hub(
    repo: str,
    filename: str,
    target: Path,
    *,
    revision: str = "main",
    progress: Progress | None = None,
) -> str:
    """Downloads a file of a repository and verifies it by the hub's digest.

    A target that exists already stays if it matches, and an interrupted download is resumed.
    Offline, the file is copied from huggingface_hub's own cache if it is there.

    Args:
      repo: such as "timm/resnet50.a1_in1k".
      filename: the file's path in the repository.
      target: the file to make.
      revision: a branch, a tag or a commit.
      progress: called with the bytes so far and the total.

    Returns:
      The file's SHA-256.

    Raises:
      OfflineError: ZOO_OFFLINE or HF_HUB_OFFLINE is set, and there is no copy.
      DigestError: the file is not what the hub says.
      FetchError: the file cannot be downloaded, or cannot be written.
    """
    import huggingface_hub as hub
    from huggingface_hub import constants

    name = f"{repo}/{filename} at {revision}"
    # huggingface_hub reads the variable when it is imported; people expect it to be read here.
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    try:
        if is_offline() or constants.HF_HUB_OFFLINE:
            cached = hub.try_to_load_from_cache(repo, filename, revision=revision)
            return _copy_cached(cached, target, name)
        token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else hub.get_token()
        url = hub.hf_hub_url(repo, filename, revision=revision, endpoint=endpoint)
    except hub.errors.HFValidationError as error:
        raise FetchError(f"{name}: the repository's name is not one that the hub allows") from error
    found = _retry_metadata(url, token, name)
    digest = _parse_etag(found.etag)
    if digest is None or found.commit is None:
        raise FetchError(f"{name}: the hub gives no digest of it, so it cannot be verified")
    # By its commit: such a file never changes, so that a later call may resume the download.
    url = hub.hf_hub_url(repo, filename, revision=found.commit, endpoint=endpoint)
    return fetch(url, target, digest=digest, size=found.size, progress=progress, token=token)


def _copy_cached(cached: object, target: Path, name: str) -> str:
    """Copies a file from huggingface_hub's cache, whose links are named by the hub's digests.

    Args:
      cached: the path in that cache, if it is a string.
      target: the file to make.
      name: the file's name in an error message.
    """
    source = Path(cached) if isinstance(cached, str) else None
    digest = _parse_etag(source.readlink().name) if source and source.is_symlink() else None
    if digest and (sha256 := verify_existing(target, digest)):
        return sha256
    if source is None or digest is None or verify_existing(source, digest) is None:
        variable = "ZOO_OFFLINE" if is_offline() else "HF_HUB_OFFLINE"
        raise OfflineError(f"{variable} is set: {name} is not fetched to {target}")
    with hold_lock(target):
        part = PartialFile(target)
        part.delete()
        with translate_os_errors(target.parent, source.stat().st_size):
            shutil.copyfile(source, part.path)
        return verify_and_move(part.path, digest, target, name)


def _parse_etag(etag: str | None) -> Digest | None:
    """Reads the digest in the hub's ETag: SHA-256 of a large file, git's SHA-1 of a small one."""
    if etag and re.fullmatch("[0-9a-f]{64}", etag):
        return Digest("sha256", etag)
    if etag and re.fullmatch("[0-9a-f]{40}", etag):
        return Digest("git-sha1", etag)
    return None


class _Metadata(NamedTuple):
    """What the hub says of a file: its ETag, which is its digest, its commit, and its bytes."""

    etag: str
    commit: str | None
    size: int | None


def _retry_metadata(url: str, token: str | None, name: str) -> _Metadata:
    """Asks the hub for a file's metadata, with the limits of downloads on time and redirects."""
    for tries in range(1, MAX_TRIES + 1):
        try:
            # A redirect to a host leads to the bytes; one without leads to a repository's new name.
            with open_url(url, {}, token, method="HEAD", leaves_host=False) as (response, _):
                _check_status(response.status, response.headers.get("X-Error-Code"), name)
                headers, leads_on = response.headers, 300 <= response.status < 400
            size = headers.get("X-Linked-Size") or (
                None if leads_on else headers.get("Content-Length")
            )
            etag = headers.get("X-Linked-Etag") or headers.get("ETag") or ""
            return _Metadata(
                etag.removeprefix("W/").strip('"'),
                headers.get("X-Repo-Commit"),
                int(size) if size and re.fullmatch("[0-9]{1,19}", size) else None,
            )
        except RetryError as error:
            failure = error
        if tries < MAX_TRIES:
            wait_before_retry(tries, failure.retry_after)
    raise UnreachableError(f"{name}: {failure} ({MAX_TRIES} tries)")


_REFUSALS = {
    "GatedRepo": "the repository is gated; accept its terms on the hub, and set HF_TOKEN",
    "RevisionNotFound": "the repository has no such revision",
    "EntryNotFound": "the repository has no such file",
    "RepoNotFound": "there is no such repository, or HF_TOKEN does not open it",
}


def _check_status(status: int, code: str | None, name: str) -> None:
    """Raises what a response of the hub means; nothing where it is not an error."""
    if status < 400:
        return
    if code in _REFUSALS:
        raise FetchError(f"{name}: {_REFUSALS[code]}")
    reason = f"the hub answered {status}"
    if status >= 500 or status in RETRYABLE_STATUSES:
        raise RetryError(reason)
    hint = "; HF_TOKEN may be missing or wrong" if status in (401, 403) else ""
    raise FetchError(f"{name}: {reason}{hint}")
