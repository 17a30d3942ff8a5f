"""Files of the Hugging Face hub, which keeps a digest of each.

The hub's own library says where a file is, what it must be, and who asks, by its own settings:
HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and the rest. The bytes come as all others do, by `fetch`:
over plain HTTP, which the hub offers for what it keeps in Xet too.
"""

import os
import re
import shutil
from pathlib import Path

from zoo_pretrained.fetch import (
    TRIES,
    Digest,
    FetchError,
    OfflineError,
    Progress,
    fetch,
    locked,
    offline,
    pause,
)
from zoo_pretrained.fetch.errors import place
from zoo_pretrained.fetch.files import held, settle
from zoo_pretrained.fetch.http import BUSY, RetryError, quiet, timeout
from zoo_pretrained.fetch.partial import Partial

# huggingface_hub's, and of what it speaks HTTP with: they log signed addresses.
LOGGERS = ("huggingface_hub", "httpx2", "httpcore2", "httpx", "httpcore")


def fetch_hub(
    repo: str,
    filename: str,
    target: Path,
    *,
    revision: str = "main",
    progress: Progress | None = None,
) -> str:
    """Downloads a file of a repository, verifies it by the hub's digest, and gives it its name.

    What is there already stays if it is what the hub has, and what broke off goes on where it
    ended. Offline, a file in huggingface_hub's own cache is copied.

    Args:
      repo: such as "timm/resnet50.a1_in1k".
      filename: in the repository, perhaps in folders.
      target: the file to make.
      revision: a branch, a tag or a commit.
      progress: told the bytes so far and those of the whole.

    Returns:
      Its SHA-256.

    Raises:
      OfflineError: ZOO_OFFLINE or HF_HUB_OFFLINE is set, and there is no copy.
      DigestError: it is not what the hub says.
      FetchError: it cannot be had, or not be kept.
    """
    import huggingface_hub as hub
    from huggingface_hub import constants

    name = f"{repo}/{filename} at {revision}"
    # The library reads it once, when it is imported; this is when people expect it to be read.
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    seconds = timeout()
    with quiet(*LOGGERS):
        for tries in range(1, TRIES + 1):
            try:
                if offline() or constants.HF_HUB_OFFLINE:
                    cached = hub.try_to_load_from_cache(repo, filename, revision=revision)
                    return _copied(cached, target, name)
                token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else hub.get_token()
                url = hub.hf_hub_url(repo, filename, revision=revision, endpoint=endpoint)
                found = hub.get_hf_file_metadata(
                    url, token=token or False, timeout=seconds, endpoint=endpoint
                )
                break
            except Exception as error:
                failure = _translated(error, name, seconds)
            if not isinstance(failure, RetryError):
                raise failure
            if tries == TRIES:
                raise FetchError(f"{name}: {failure} ({TRIES} tries)")
            pause(tries)
    digest = _digest(found.etag)
    if digest is None or found.commit_hash is None:
        raise FetchError(f"{name}: the hub names no digest of it, so it cannot be verified")
    # A commit's file never changes, so that a later call may go on with it.
    url = hub.hf_hub_url(repo, filename, revision=found.commit_hash, endpoint=endpoint)
    return fetch(url, target, digest=digest, size=found.size, progress=progress, token=token)


def _copied(cached: object, target: Path, name: str) -> str:
    """A copy from huggingface_hub's cache, where a link names each file by the hub's digest."""
    source = Path(cached) if isinstance(cached, str) else None
    digest = _digest(source.readlink().name) if source and source.is_symlink() else None
    if digest and (sha256 := held(target, digest)):
        return sha256
    if source is None or digest is None or held(source, digest) is None:
        variable = "ZOO_OFFLINE" if offline() else "HF_HUB_OFFLINE"
        raise OfflineError(f"{variable} is set: {name} is not fetched to {target}")
    with locked(target):
        part = Partial(target)
        part.drop()
        with place(target.parent, source.stat().st_size):
            shutil.copyfile(source, part.path)
        return settle(part.path, digest, target, name)


def _digest(etag: str | None) -> Digest | None:
    """What the hub's ETag says of a file: SHA-256 of a large one, git's SHA-1 of a small one."""
    if etag and re.fullmatch("[0-9a-f]{64}", etag):
        return Digest("sha256", etag)
    if etag and re.fullmatch("[0-9a-f]{40}", etag):
        return Digest("git-sha1", etag)
    return None


def _translated(error: Exception, name: str, seconds: float) -> Exception:
    """What huggingface_hub raises → an error of this package; its own texts hold addresses."""
    from huggingface_hub import errors

    # The library of HTTP differs between versions: httpx, httpx2, …
    kinds = {kind.__name__ for kind in type(error).__mro__}
    match error:
        case FetchError():
            return error
        case errors.GatedRepoError():
            reason = "the repository is gated; accept its terms on the hub, and set HF_TOKEN"
        case errors.RevisionNotFoundError():
            reason = "the repository has no such revision"
        case errors.EntryNotFoundError():
            reason = "the repository has no such file"
        case errors.RepositoryNotFoundError():
            reason = "there is no such repository, or HF_TOKEN does not open it"
        case errors.HFValidationError():
            reason = "the repository's name is none that the hub allows"
        case errors.HfHubHTTPError():
            status = error.response.status_code
            reason = f"the hub answered {status}"
            if status >= 500 or status in BUSY:
                return RetryError(reason)
            if status in (401, 403):
                reason += "; HF_TOKEN may be missing or wrong"
        case _ if "TimeoutException" in kinds:
            return RetryError(f"the hub gave no answer in {seconds:g} s")
        case _ if "TransportError" in kinds:
            return RetryError("no connection to the hub")
        case _:
            reason = f"huggingface_hub failed with {type(error).__name__}"
    return FetchError(f"{name}: {reason}")
