"""Trained weights by name: embedded, cached, from a store, or from who published them.

They are looked for in this order. Whatever comes from elsewhere is verified, converted if it must
be, and kept in the cache, by one process for all.
"""

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zoo_pretrained import addresses, archive, cache, catalogue, fetch, hub, remote_store
from zoo_pretrained.checkpoint import (
    Checkpoint,
    CheckpointError,
    DamagedError,
    read_metadata,
    restore,
)
from zoo_pretrained.fetch import errors

# Makes a checkpoint of an upstream file: (file, model, weights, source, target).
Convert = Callable[[Path, str, str, dict[str, Any], Path], None]


class Origin(NamedTuple):
    """Where weights are, or would come from.

    Args:
      kind: "embedded", "cache", "store" or "upstream".
      place: a folder, or an address.
      size: in bytes, of the folder or of what would be downloaded; None if not known.
    """

    kind: str
    place: str
    size: int | None


def list_origins() -> dict[str, dict[str, Origin]]:
    """All weights: model → weights → origin; a model's first ones are its default.

    Stores that cannot be used are passed over with a warning.
    """
    found: dict[str, dict[str, Origin]] = {}
    for model, several in catalogue.entries().items():
        for weights, entry in several.items():
            found.setdefault(model, {})[weights] = _upstream(entry)
    failures: dict[str, Exception] = {}
    for base in remote_store.configured_stores():
        try:
            contents = remote_store.read_index(base)
        except (fetch.FetchError, remote_store.StoreError) as error:
            failures[base] = error
            continue
        for model, listed in contents.items():
            for weights, item in listed.items():
                known = found.setdefault(model, {}).get(weights)
                if known is None or known.kind == "upstream":
                    origin = Origin("store", addresses.redact_address(item.address), item.size)
                    found[model][weights] = origin
    _pass_over(failures)
    for here in cache.items():
        if here.kind == "checkpoint":
            for model, weights in _names(here, found):
                found.setdefault(model, {})[weights] = Origin("cache", str(here.path), here.size)
    return found


def _names(item: cache.Item, known: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The (model, weights) that a checkpoint of the cache is loaded by; none if by address."""
    try:
        model = str(read_metadata(item.path).get("model"))
    except CheckpointError:
        return []
    weights = item.name.removeprefix(f"{model}-")
    by_address = re.search("-[0-9a-f]{16}$", weights) and weights not in known.get(model, {})
    return [] if weights == item.name or by_address else [(model, weights)]


def load_checkpoint(model: str, weights: str, convert: Convert) -> Checkpoint:
    """The checkpoint of a model's weights, from wherever it is.

    Args:
      model, weights: their names.
      convert: makes a checkpoint of an upstream file.

    Raises:
      LookupError: there are no such weights.
      FetchError: they cannot be had; OfflineError if only `ZOO_OFFLINE` is in the way.
      DamagedError: the cached checkpoint is not what was saved. It is kept aside, and the next
        call fetches it anew.
    """
    entry = catalogue.entries().get(model, {}).get(weights, {})
    if "checkpoint" in entry:
        return restore(catalogue.checkpoint(entry))
    path = cache.checkpoint(f"{model}-{weights}")
    if not cache.holds(path):
        item = _in_stores(model, weights, bool(entry))
        with _alone(path):
            if not cache.holds(path):  # another process may have fetched it meanwhile
                if item:
                    _from_store(item, model, path)
                else:
                    _from_upstream(model, weights, entry["source"], path, convert)
    return _restored(path, lambda: load_checkpoint(model, weights, convert))


def load_checkpoint_from(place: str) -> Checkpoint:
    """The checkpoint in a folder, in an archive, or at an address of an archive.

    Raises:
      CheckpointError: there is none, or it is damaged.
      StoreError, FetchError, ArchiveError: it cannot be had, or nothing verifies it.
    """
    if "://" not in place:
        path = Path(place).expanduser()
        if not path.is_file():
            return restore(path)
        with archive.unpacked(path) as folder:
            return restore(folder)  # what it maps outlives the folder
    try:
        item = remote_store.find_archive(place)
    except fetch.OfflineError:  # its index would tell the sum, which a cached folder's name has too
        known = cache.fetched(place.rpartition("/")[2].removesuffix(".tar"))
        if len(known) != 1:
            raise
        return _restored(known[0], lambda: load_checkpoint_from(place))
    path = cache.checkpoint(f"{item.archive.removesuffix('.tar')}-{item.sha256[:16]}")
    if not cache.holds(path):
        with _alone(path):
            if not cache.holds(path):
                remote_store.download_archive(item, path)
    return _restored(path, lambda: load_checkpoint_from(place))


def _in_stores(model: str, weights: str, elsewhere: bool) -> remote_store.Item | None:
    """The first store's item of those names; None if upstream has them.

    Args:
      model, weights: the names.
      elsewhere: whether upstream has them.

    Raises:
      LookupError: nobody has them.
      FetchError, StoreError: nobody has them, but a store could not be asked.
    """
    found, failures = None, dict[str, Exception]()
    for base in remote_store.configured_stores():
        try:
            found = remote_store.read_index(base).get(model, {}).get(weights)
        except (fetch.FetchError, remote_store.StoreError) as error:
            failures[base] = error
        if found:
            break
    if not found and not elsewhere:
        for failure in failures.values():
            raise failure
        raise LookupError(f"no store has {model} {weights}")
    _pass_over(failures)
    return found


def _from_store(item: remote_store.Item, model: str, path: Path) -> None:
    """Puts a store's checkpoint into the cache, if it is the model's."""
    remote_store.download_archive(item, path)
    held = read_metadata(path).get("model")
    if held != model:
        kept = cache.set_aside(path)
        raise remote_store.StoreError(
            f"{addresses.redact_address(item.address)} holds a {held}, not a {model}; "
            f"it is kept at {kept}"
        )


def _from_upstream(
    model: str, weights: str, source: dict[str, Any], path: Path, convert: Convert
) -> None:
    """Converts a published file into the cache."""
    try:
        file, sha256 = _fetched(source, f"{model} {weights}")
    except fetch.OfflineError as error:
        size = errors.format_bytes(_upstream(catalogue.entries()[model][weights]).size or 0)
        raise fetch.OfflineError(f"{error}; {model} {weights} takes about {size}") from None
    with fetch.locked(file):  # nobody removes it meanwhile
        convert(file, model, weights, {**source, "sha256": sha256}, path)
        file.unlink()


def _fetched(source: dict[str, Any], name: str) -> tuple[Path, str]:
    """A published file, and its sha256."""
    with fetch.bar(name) as progress:
        if "hub" in source:
            file = cache.download(f"{source['hub'].replace('/', '--')}--{source['file']}")
            return file, hub.fetch_hub(source["hub"], source["file"], file, progress=progress)
        file = cache.download(source["url"].rpartition("/")[2])
        digest = next(fetch.Digest(a, source[a]) for a in ("sha256", "md5") if a in source)
        return file, fetch.fetch(source["url"], file, digest=digest, progress=progress)


def _restored(path: Path, again: Callable[[], Checkpoint]) -> Checkpoint:
    """A checkpoint of the cache; a damaged one is kept aside.

    Args:
      path: its folder.
      again: what to do if another process has set it aside meanwhile.
    """
    try:
        return restore(path)
    except DamagedError as error:
        damaged = error
    except CheckpointError:
        if path.exists():
            raise
        return again()
    try:
        with errors.place(path.parent), fetch.locked(path):
            if cache.holds(path) and (kept := _set_aside(path)):
                damaged = DamagedError(
                    f"{damaged}. It is kept at {kept}; the next call will fetch it anew"
                )
                raise damaged
    except fetch.FetchError:  # as in a cache that can only be read
        raise damaged from None
    return again()  # another process has mended it, or set it aside


def _set_aside(path: Path) -> Path | None:
    """Where a damaged checkpoint is now; None if it is whole after all."""
    try:
        restore(path)
    except DamagedError:
        return cache.set_aside(path)
    return None


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Only this process works at a place of the cache; what killed ones left there is gone."""
    with errors.place(path.parent), fetch.locked(path):
        cache.sweep(path)
        if path.exists() and not cache.holds(path):
            cache.set_aside(path)
        yield


def _pass_over(failures: Mapping[str, Exception]) -> None:
    """A store that cannot be asked is no reason to fail, but one to say so."""
    for base, error in failures.items():
        warnings.warn(
            f"the store {addresses.redact_address(base)} is passed over: {error}", stacklevel=4
        )


def _upstream(entry: dict[str, Any]) -> Origin:
    if "checkpoint" in entry:
        path = catalogue.checkpoint(entry)
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return Origin("embedded", str(path), size)
    source = entry["source"]
    hub_place = f"hf://{source['hub']}/{source['file']}" if "hub" in source else ""
    return Origin(
        "upstream", hub_place or source["url"], source.get("size", 4 * entry["parameters"])
    )
