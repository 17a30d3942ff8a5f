"""Finds trained weights by name: embedded, cached, in a store, or at their publisher.

They are looked for in this order. Whatever is downloaded is verified, converted if necessary, and
kept in the cache. Where several processes ask for the same weights, one downloads them and the
others wait.
"""

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zoo_pretrained import archive, cache, catalogue, fetch, hub, remote_store
from zoo_pretrained.addresses import expand_home, redact_address
from zoo_pretrained.checkpoint import (
    Checkpoint,
    CheckpointError,
    DamagedError,
    read_metadata,
    restore,
)
from zoo_pretrained.fetch.errors import format_bytes, translate_os_errors
from zoo_pretrained.printable import MAX_MESSAGE, printable

# Makes a checkpoint of a published file: (file, model, weights, download, target).
ConvertFile = Callable[[Path, str, str, dict[str, Any], Path], None]


class WeightsLocation(NamedTuple):
    """Where weights are, or would be downloaded from.

    Args:
      kind: "embedded", "cache", "store" or "upstream" (their publisher).
      location: a folder, or an address.
      size: in bytes, of the folder or of the download; None if not known.
    """

    kind: str
    location: str
    size: int | None


def list_locations() -> dict[str, dict[str, WeightsLocation]]:
    """Lists all weights: model → weights → location; a model's first weights are its default.

    Stores that cannot be used are skipped with a warning.
    """
    locations: dict[str, dict[str, WeightsLocation]] = {}
    for model, entries in catalogue.entries().items():
        for weights, entry in entries.items():
            locations.setdefault(model, {})[weights] = _catalogue_location(entry)
    failures: dict[str, Exception] = {}
    for store in remote_store.configured_stores():
        try:
            index = remote_store.read_index(store)
        except (fetch.FetchError, remote_store.StoreError) as error:
            failures[store] = error
            continue
        for model, archives in index.items():
            for weights, stored in archives.items():
                listed = locations.setdefault(model, {}).get(weights)
                if listed is None or listed.kind == "upstream":
                    address = redact_address(stored.address)
                    locations[model][weights] = WeightsLocation("store", address, stored.size)
    _warn_of_skipped_stores(failures)
    for item in cache.items():
        if item.kind == "checkpoint" and (names := _cached_names(item, locations)):
            model, weights = names
            locations.setdefault(model, {})[weights] = WeightsLocation(
                "cache", str(item.path), item.size
            )
    return locations


def _cached_names(
    item: cache.CacheItem, locations: Mapping[str, Mapping[str, Any]]
) -> tuple[str, str] | None:
    """Returns the model and weights of a cached checkpoint; None if it was loaded by address.

    Args:
      item: the checkpoint.
      locations: the weights that are known by name.
    """
    try:
        model = str(read_metadata(item.path).get("model"))
    except CheckpointError:
        return None
    weights = item.name.removeprefix(f"{model}-")
    by_address = re.search("-[0-9a-f]{16}$", weights) and weights not in locations.get(model, {})
    return None if weights == item.name or by_address else (model, weights)


def load_checkpoint(
    model: str, weights: str, convert: ConvertFile, check: remote_store.CheckCheckpoint
) -> Checkpoint:
    """Loads the checkpoint of a model's weights, from wherever it is.

    Args:
      model, weights: their names.
      convert: makes a checkpoint of a published file.
      check: raises an error for a store's checkpoint that is not such a model's, before it enters
        the cache.

    Raises:
      LookupError: there are no such weights.
      FetchError: the weights cannot be downloaded; OfflineError if only `ZOO_OFFLINE` forbids it.
      DamagedError: the cached checkpoint has changed since it was saved. It is renamed and kept,
        and the next call downloads it again.
    """
    entry = catalogue.entries().get(model, {}).get(weights, {})
    if "checkpoint" in entry:
        return restore(catalogue.embedded_checkpoint_path(entry))
    path = cache.checkpoint_path(f"{model}-{weights}")

    def find() -> Callable[[], None]:
        if stored := _find_in_stores(model, weights, bool(entry)):
            return lambda: _fetch_from_store(stored, model, path, check)
        return lambda: _fetch_from_upstream(model, weights, entry["source"], path, convert)

    return _load_cached(path, find)


def load_checkpoint_from(location: str, check: remote_store.CheckCheckpoint) -> Checkpoint:
    """Loads the checkpoint in a folder, in an archive, or at an archive's address.

    Args:
      location: the folder, archive or address.
      check: raises an error for a checkpoint that is not what is wanted; one that is downloaded
        does not enter the cache then.

    Raises:
      CheckpointError: there is no checkpoint, or it is damaged.
      StoreError, FetchError, ArchiveError: it cannot be downloaded, or nothing verifies it.
    """
    checkpoint = _load_unchecked(location, check)
    check(checkpoint, redact_address(location))
    return checkpoint


def _load_unchecked(location: str, check: remote_store.CheckCheckpoint) -> Checkpoint:
    """Loads a checkpoint as `load_checkpoint_from` does; checks only what is downloaded."""
    if "://" not in location:
        try:
            path = expand_home(location)
        except FileNotFoundError as error:
            raise CheckpointError(f"there is no checkpoint at {error}") from error
        if not path.is_file():
            return restore(path)
        with archive.unpack_temporarily(path) as folder:
            return restore(folder)  # its memory maps outlive the folder
    try:
        stored = remote_store.find_archive(location)
    except fetch.OfflineError:  # without the index's digest, a cached folder's name will do
        cached = cache.find_by_archive(location.rpartition("/")[2].removesuffix(".tar"))
        if len(cached) != 1 or not (found := _restore_cached(cached[0])):
            raise
        return found
    path = cache.checkpoint_path(f"{stored.archive.removesuffix('.tar')}-{stored.sha256[:16]}")
    return _load_cached(path, lambda: lambda: remote_store.download_archive(stored, path, check))


def _load_cached(path: Path, find: Callable[[], Callable[[], None]]) -> Checkpoint:
    """Restores a cached checkpoint, which is fetched first if it is not there, but only once.

    Args:
      path: its folder.
      find: finds where it is, and returns what fetches it from there to the path.
    """
    fetched = False
    while True:
        if not cache.has_checkpoint(path):
            if fetched:
                raise CheckpointError(
                    f"{path} was fetched, and is gone: another process removes it"
                )
            fetch_it = find()
            with _lock_checkpoint(path):
                if not cache.has_checkpoint(path):  # no other process has fetched it meanwhile
                    fetch_it()
                    fetched = True
        if found := _restore_cached(path):
            return found


def _find_in_stores(
    model: str, weights: str, has_upstream: bool
) -> remote_store.StoredArchive | None:
    """Finds weights in the first store that has them; None if only their publisher does.

    Args:
      model, weights: the names.
      has_upstream: whether the catalogue names their publisher.

    Raises:
      LookupError: no store has the weights, and the catalogue names no publisher of them.
      FetchError, StoreError: the weights were not found, and a store could not be read.
    """
    found, failures = None, dict[str, Exception]()
    for store in remote_store.configured_stores():
        try:
            found = remote_store.read_index(store).get(model, {}).get(weights)
        except (fetch.FetchError, remote_store.StoreError) as error:
            failures[store] = error
        if found:
            break
    if not found and not has_upstream:
        for failure in failures.values():
            raise failure
        raise LookupError(
            f"{model} {weights} was not found: it is not in the catalogue, the cache or any store"
        )
    _warn_of_skipped_stores(failures)
    return found


def _fetch_from_store(
    stored: remote_store.StoredArchive,
    model: str,
    path: Path,
    check: remote_store.CheckCheckpoint,
) -> None:
    """Puts a store's checkpoint into the cache; StoreError if it is of another model."""

    def check_all(checkpoint: Checkpoint, place: str) -> None:
        found = checkpoint.metadata.get("model")
        if found != model:
            raise remote_store.StoreError(f"{place} holds a {printable(found)}, not a {model}")
        check(checkpoint, place)

    remote_store.download_archive(stored, path, check_all)


def _fetch_from_upstream(
    model: str, weights: str, download: dict[str, Any], path: Path, convert: ConvertFile
) -> None:
    """Downloads a published file, and converts it into the cache."""
    file = _download_path(download)
    with cache.use_download(file):
        try:
            sha256 = _download_published(download, file, f"{model} {weights}")
        except (fetch.OfflineError, fetch.UnreachableError) as error:
            size = format_bytes(_catalogue_location(catalogue.entries()[model][weights]).size or 0)
            raise type(error)(
                f"{error}; {model} {weights} takes about {size}. Without a network it is found in "
                f"the cache, {cache.folder()}, or in a store that ZOO_STORES lists"
            ) from None
        convert(file, model, weights, {**download, "sha256": sha256}, path)
        file.unlink()


def _download_path(download: dict[str, Any]) -> Path:
    """Where a published file is downloaded to."""
    if "hub" in download:
        return cache.download_path(f"{download['hub'].replace('/', '--')}--{download['file']}")
    return cache.download_path(download["url"].rpartition("/")[2])


def _download_published(download: dict[str, Any], file: Path, description: str) -> str:
    """Downloads a published file, and returns its SHA-256."""
    with fetch.progress_bar(description) as progress:
        if "hub" in download:
            return hub.fetch_from_hub(download["hub"], download["file"], file, progress=progress)
        digest = next(fetch.Digest(a, download[a]) for a in ("sha256", "md5") if a in download)
        return fetch.fetch(download["url"], file, digest=digest, progress=progress)


def _restore_cached(path: Path) -> Checkpoint | None:
    """Restores a cached checkpoint; a damaged one is renamed, and DamagedError raised.

    Args:
      path: its folder.

    Returns:
      The checkpoint; None if another process has renamed or replaced it meanwhile.
    """
    try:
        return restore(path)
    except DamagedError as error:
        damaged = error
    except CheckpointError:
        if path.exists():
            raise
        return None
    try:
        with translate_os_errors(path.parent), fetch.hold_lock(path):
            if cache.has_checkpoint(path) and (kept := _quarantine_if_damaged(path)):
                damaged = DamagedError(
                    f"{damaged}. It is kept at {kept}; the next call will fetch it again"
                )
                raise damaged
    except fetch.FetchError:  # the cache is read-only, for example
        raise damaged from None
    return None


def _quarantine_if_damaged(path: Path) -> Path | None:
    """Renames a checkpoint if it is still damaged, and returns its new path; otherwise None."""
    try:
        restore(path)
    except DamagedError:
        return cache.quarantine(path)
    return None


@contextlib.contextmanager
def _lock_checkpoint(path: Path) -> Iterator[None]:
    """Holds a cached checkpoint's lock, having removed what killed processes left there."""
    with translate_os_errors(path.parent), fetch.hold_lock(path):
        cache.remove_leftovers(path)
        if path.exists() and not cache.has_checkpoint(path):
            cache.quarantine(path)
        yield


def _warn_of_skipped_stores(failures: Mapping[str, Exception]) -> None:
    """Warns of each store that could not be read."""
    for store, error in failures.items():
        text = f"the store {redact_address(store)} is skipped: {error}"
        warnings.warn(printable(text, MAX_MESSAGE), stacklevel=4)


def _catalogue_location(entry: dict[str, Any]) -> WeightsLocation:
    """Returns where a catalogue's entry is: embedded or upstream."""
    if "checkpoint" in entry:
        path = catalogue.embedded_checkpoint_path(entry)
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return WeightsLocation("embedded", str(path), size)
    download = entry["source"]
    location = (
        f"hf://{download['hub']}/{download['file']}" if "hub" in download else download["url"]
    )
    return WeightsLocation("upstream", location, download.get("size", 4 * entry["parameters"]))
