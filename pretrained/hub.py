"""Files of the Hugging Face hub, which keeps a digest of each.

The hub's own library fetches them, with its settings: HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and
the rest. It names a large file by its SHA-256 and a small one as git does, so both are verified.
Unlike `fetch`, it cannot go on with a download of a process that was killed.
"""

import errno
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretrained.fetch import (
    TRIES,
    Digest,
    FetchError,
    OfflineError,
    Progress,
    locked,
    offline,
    pause,
)
from pretrained.fetch.errors import place, room
from pretrained.fetch.files import held, settle
from pretrained.fetch.http import RetryError, quiet, timeout

# huggingface_hub's, and of what it speaks HTTP with: they log signed addresses.
LOGGERS = ("huggingface_hub", "httpx2", "httpcore2", "httpx", "httpcore", "hf_xet", "filelock")
BUSY = (408, 429)


def fetch_hub(
    repo: str,
    filename: str,
    target: Path,
    *,
    revision: str = "main",
    progress: Progress | None = None,
) -> str:
    """Downloads a file of a repository, verifies it by the hub's digest, and gives it its name.

    What is there already stays if it is what the hub has. Offline, a file in huggingface_hub's own
    cache is copied.

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
    file = _File(repo, filename, revision, target)
    with locked(target):
        from huggingface_hub import constants

        with quiet(*LOGGERS):
            try:
                if offline() or constants.is_offline_mode():
                    return _copied(file)
                for tries in range(1, TRIES + 1):
                    try:
                        return _fetched(file, progress)
                    except RetryError as failure:
                        if tries == TRIES:
                            raise FetchError(f"{file.name}: {failure} ({TRIES} tries)") from None
                        pause(tries)
            finally:
                shutil.rmtree(file.workshop, ignore_errors=True)
    raise AssertionError("the last try returns or raises")


@dataclass(frozen=True)
class _File:
    """What is fetched, and where to."""

    repo: str
    path: str
    revision: str
    target: Path

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.repo}/{self.path} at {self.revision}"

    @property
    def workshop(self) -> Path:
        """A folder beside the target: on its disk, and gone when the file has its name."""
        return self.target.with_name(f".{self.target.name}.hub")


def _fetched(file: _File, progress: Progress | None) -> str:
    """One attempt; raises RetryError where another may do better."""
    import huggingface_hub as hub

    folder = file.target.parent
    # The library reads it once, when it is imported; this is when people expect it to be read.
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    try:
        url = hub.hf_hub_url(file.repo, file.path, revision=file.revision, endpoint=endpoint)
        found = hub.get_hf_file_metadata(url, timeout=timeout(), endpoint=endpoint)
    except Exception as error:
        raise _translated(error, file, again=True) from None
    digest = _digest(found.etag)
    if digest is None or found.commit_hash is None:
        raise FetchError(f"{file.name}: the hub names no digest of it, so it cannot be verified")
    if sha256 := held(file.target, digest):
        return sha256
    if found.size is not None:
        room(folder, found.size)
    shutil.rmtree(file.workshop, ignore_errors=True)
    with place(folder):
        file.workshop.mkdir()
    try:
        made = hub.hf_hub_download(
            file.repo,
            file.path,
            revision=found.commit_hash,
            local_dir=file.workshop,
            endpoint=endpoint,
            etag_timeout=timeout(),
            tqdm_class=_reporter(progress, found.size),
        )
    except Exception as error:
        raise _translated(error, file, again=False) from None
    return settle(Path(made), digest, file.target, file.name)


def _copied(file: _File) -> str:
    """The copy in huggingface_hub's cache, where a link names each file by the hub's digest."""
    import huggingface_hub as hub

    variable = "ZOO_OFFLINE" if offline() else "HF_HUB_OFFLINE"
    refusal = OfflineError(f"{variable} is set: {file.name} is not fetched to {file.target}")
    try:
        cached = hub.try_to_load_from_cache(file.repo, file.path, revision=file.revision)
    except Exception as error:
        raise _translated(error, file, again=False) from None
    if not isinstance(cached, str) or not Path(cached).is_symlink():
        raise refusal
    digest = _digest(Path(cached).readlink().name)
    if digest is None:
        raise refusal
    if sha256 := held(file.target, digest):
        return sha256
    if held(Path(cached), digest) is None:
        raise refusal
    with place(file.target.parent, Path(cached).stat().st_size):
        file.workshop.mkdir(exist_ok=True)
        shutil.copyfile(cached, file.workshop / "copy")
    return settle(file.workshop / "copy", digest, file.target, file.name)


def _digest(etag: str | None) -> Digest | None:
    """What the hub's ETag says of a file: SHA-256 of a large one, git's SHA-1 of a small one."""
    if etag and re.fullmatch("[0-9a-f]{64}", etag):
        return Digest("sha256", etag)
    if etag and re.fullmatch("[0-9a-f]{40}", etag):
        return Digest("git-sha1", etag)
    return None


def _reporter(progress: Progress | None, total: int | None) -> Any:
    """What the library takes for a class of bars, and tells us instead of drawing."""

    class Reporter:
        def __init__(self, *_: object, initial: int = 0, desc: str = "", **__: object) -> None:
            self.n, self.total = initial, total
            # Of the two bars of Xet, one counts what is transferred, which is less than the file.
            self.tell: Callable[[int, int | None], None] | None = (
                None if desc.endswith("downloading bytes") else progress
            )

        def __enter__(self) -> "Reporter":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, count: float | None = 1) -> None:
            self.n += int(count or 0)
            if self.tell:
                self.tell(self.n, total)

        def close(self) -> None:
            pass

        def refresh(self) -> None:
            pass

        def set_postfix_str(self, *_: object, **__: object) -> None:
            pass

    return Reporter


def _translated(error: Exception, file: _File, *, again: bool) -> Exception:
    """What huggingface_hub raises → an error of this package; its own texts hold addresses.

    Args:
      error: its own.
      file: what was to be fetched.
      again: whether a lost connection is worth another try: its downloads have tried by themselves.
    """
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        return _translated(error.__cause__, file, again=again)
    name = file.name
    # The library of HTTP differs between versions: httpx, httpx2, …
    kinds = {kind.__name__ for kind in type(error).__mro__}
    match error:
        case FetchError():
            return error
        case errors.OfflineModeIsEnabled():
            return OfflineError(f"HF_HUB_OFFLINE is set: {name} is not fetched")
        case errors.GatedRepoError():
            return FetchError(
                f"{name}: the repository is gated; accept its terms on the hub, and set HF_TOKEN"
            )
        case errors.RevisionNotFoundError():
            return FetchError(f"{name}: the repository has no such revision")
        case errors.EntryNotFoundError():
            return FetchError(f"{name}: the repository has no such file")
        case errors.RepositoryNotFoundError():
            return FetchError(f"{name}: there is no such repository, or HF_TOKEN does not open it")
        case errors.HFValidationError():
            return FetchError(f"{name}: the repository's name is none that the hub allows")
        case errors.HfHubHTTPError():
            return _answered(error.response.status_code, name)
        case errors.FileMetadataError():
            return FetchError(f"{name}: what answers is no hub, or the hub is in disorder")
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            try:
                with place(file.target.parent):
                    raise error
            except FetchError as told:
                return told
    if "TimeoutException" in kinds:
        reason = f"the hub gave no answer in {timeout():g} s" if again else "the hub went silent"
    elif "TransportError" in kinds:
        reason = "no connection to the hub"
        again = again or "ReadError" in kinds  # the one that its downloads do not try again
    elif isinstance(error, OSError):  # its check of the size has no class of its own
        again, reason = True, "the download is incomplete"
    else:
        return FetchError(f"{name}: huggingface_hub failed with {type(error).__name__}")
    return RetryError(reason) if again else FetchError(f"{name}: {reason}")


def _answered(status: int, name: str) -> Exception:
    if status >= 500 or status in BUSY:
        return RetryError(f"the hub answered {status}")
    hint = "; HF_TOKEN may be missing or wrong" if status in (401, 403) else ""
    return FetchError(f"{name}: the hub answered {status}{hint}")
