"""Trained weights by name: embedded, cached, from a store, or from who published them.

They are looked for in this order. Whatever comes from elsewhere is verified, converted if it must
be, and kept in the cache, by one process for all.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pretrained import archive, cache, catalogue, fetch, hub, remote, stores
from pretrained.fetch import errors
from pretrained.store import Checkpoint, DamagedError, restore

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


def origins() -> dict[str, dict[str, Origin]]:
    """All weights: model → weights → origin; a model's first ones are its default.

    Stores that cannot be used are passed over with a warning.
    """
    found: dict[str, dict[str, Origin]] = {}
    for model, several in catalogue.entries().items():
        for weights, entry in several.items():
            found.setdefault(model, {})[weights] = _upstream(entry)
    for base in stores.bases():
        with _passed_over(base):
            for model, listed in stores.contents(base).items():
                for weights, item in listed.items():
                    known = found.setdefault(model, {}).get(weights)
                    if known is None or known.kind == "upstream":
                        origin = Origin("store", remote.shown(item.address), item.size)
                        found[model][weights] = origin
    cached = {item.name: item for item in cache.items() if item.kind == "checkpoint"}
    for model, origins_ in found.items():
        for weights, origin in origins_.items():
            here = cached.get(f"{model}-{weights}")
            if here and origin.kind != "embedded":
                origins_[weights] = Origin("cache", str(here.path), here.size)
    return found


def load(model: str, weights: str, convert: Convert) -> Checkpoint:
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
        with _alone(path):
            if not cache.holds(path):  # another process has fetched it meanwhile
                _obtain(model, weights, entry, path, convert)
    return _restored(path)


def load_from(place: str) -> Checkpoint:
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
    item = stores.locate(place)
    path = cache.checkpoint(f"{item.archive.removesuffix('.tar')}-{item.sha256[:16]}")
    if not cache.holds(path):
        with _alone(path):
            if not cache.holds(path):
                stores.get(item, path)
    return _restored(path)


def _obtain(model: str, weights: str, entry: dict[str, Any], path: Path, convert: Convert) -> None:
    """Puts a checkpoint into the cache, from the first store that has it or from upstream."""
    for base in stores.bases():
        with _passed_over(base):
            item = stores.contents(base).get(model, {}).get(weights)
            if item:
                stores.get(item, path)
                return
    if not entry:
        raise LookupError(f"no store has {model} {weights}")
    source = entry["source"]
    try:
        file, sha256 = _fetched(source, f"{model} {weights}")
    except fetch.OfflineError as error:
        size = errors.readable(_upstream(entry).size or 0)
        raise fetch.OfflineError(f"{error}; {model} {weights} takes about {size}") from None
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


def _restored(path: Path) -> Checkpoint:
    """A checkpoint of the cache; a damaged one is kept aside."""
    try:
        return restore(path)
    except DamagedError:
        with fetch.locked(path):
            try:
                return restore(path)  # another process has mended it meanwhile
            except DamagedError as error:
                kept = cache.set_aside(path)
                raise DamagedError(
                    f"{error}. It is kept at {kept}; the next call will fetch it anew"
                ) from error


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Only this process works at a place of the cache; what killed ones left there is gone."""
    with errors.place(path.parent), fetch.locked(path):
        cache.sweep(path)
        yield


@contextlib.contextmanager
def _passed_over(base: str) -> Iterator[None]:
    """A store that cannot be used is no reason to fail, but one to say so.

    What it has and is not what it says is: that is never passed over.
    """
    try:
        yield
    except fetch.DigestError:
        raise
    except (fetch.FetchError, stores.StoreError) as error:
        warnings.warn(f"the store {remote.shown(base)} is passed over: {error}", stacklevel=3)


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
