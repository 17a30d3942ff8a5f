"""Stores: a folder or an address that holds checkpoints for a group.

A store has an `index.json`, and one tar archive a checkpoint:

    {"format": 1, "checkpoints": {MODEL: {WEIGHTS: {"archive": "MODEL-WEIGHTS-1f2e3d4c.tar",
     "sha256": …, "size": …, "unpacked": …}}}}

`size` and `unpacked` are in bytes. Its address is a folder, or begins with https://, gs://, s3://
or hf:// (hf://USER/REPO for a model repository of the Hugging Face hub).
"""

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from zoo_pretrained import addresses, archive, cache, fetch
from zoo_pretrained.checkpoint import CheckpointError, restore
from zoo_pretrained.fetch.errors import place, room
from zoo_pretrained.fetch.files import digests, held, settle

FORMAT = 1
INDEX = "index.json"
MOST_INDEX_BYTES = 16 << 20
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")


class StoreError(Exception):
    """A store that cannot be used, or what cannot be put there; names the store."""


class Item(NamedTuple):
    """A checkpoint in a store.

    Args:
      base: the store's address.
      archive: the file's name there.
      sha256: of the archive.
      size, unpacked: in bytes, of the archive and of the checkpoint's files; None if not known.
    """

    base: str
    archive: str
    sha256: str
    size: int | None = None
    unpacked: int | None = None

    @property
    def address(self) -> str:
        """Of the archive."""
        return f"{self.base.rstrip('/')}/{self.archive}"


def configured_stores() -> list[str]:
    """The stores that `$ZOO_STORES` lists, with commas between them."""
    return [base.strip() for base in os.environ.get("ZOO_STORES", "").split(",") if base.strip()]


def read_index(base: str) -> dict[str, dict[str, Item]]:
    """What a store has: model → weights → item.

    Raises:
      StoreError: its index is none.
      FetchError: it cannot be reached.
    """
    text = _read(base, INDEX)
    if text is None:
        raise StoreError(f"{addresses.redact_address(base)} is no store: it has no {INDEX}")
    try:
        index = json.loads(text)
        if index["format"] != FORMAT:
            raise ValueError(f"format {index['format']!r}; this version reads {FORMAT}")
        return {
            _checked(model): {
                _checked(weights): _item(base, entry) for weights, entry in several.items()
            }
            for model, several in index["checkpoints"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        cause = f"{type(error).__name__}: {error}"
        raise StoreError(
            f"the {INDEX} of {addresses.redact_address(base)} cannot be used: {cause}"
        ) from error


def find_archive(url: str) -> Item:
    """The archive at an address: in a store, or with its sum behind it, as in …#sha256=HEX.

    Raises:
      StoreError: nothing tells the archive's sum.
    """
    address, _, fragment = url.partition("#")
    base, _, name = address.rpartition("/")
    if fragment:
        match = re.fullmatch(r"sha256=([0-9a-f]{64})", fragment)
        if not match or not _NAME.fullmatch(name):
            raise StoreError(
                f"an address ends in the archive's name and #sha256= with 64 digits, "
                f"got {addresses.redact_address(url)!r}"
            )
        return Item(base, name, match[1])
    for several in read_index(base).values():
        for item in several.values():
            if item.archive == name:
                return item
    raise StoreError(
        f"{addresses.redact_address(base)} has no archive {name!r} in its {INDEX}, so nothing "
        f"verifies it; an address outside a store ends in #sha256=…"
    )


def download_archive(item: Item, target: Path) -> None:
    """Fetches an archive, verifies it, and unpacks it to a folder, which appears whole.

    Raises:
      FetchError: it cannot be had, or is not what the index says.
      ArchiveError: it is not safe to unpack.
    """
    local = _folder(item.base)
    packed = local / item.archive if local else cache.download(f"{item.sha256[:16]}-{item.archive}")
    digest = fetch.Digest("sha256", item.sha256)
    if local:
        if not packed.is_file():
            raise StoreError(f"the store {local} lists {item.archive!r}, which is not there")
        fetch.verify(packed, digest)
        _unpack(item, packed, target)
        return
    # Two checkpoints may come of one archive, which must stay until both are there.
    with fetch.locked(packed.with_name(f"{packed.name}.use")):
        with fetch.bar(item.archive) as progress:
            _fetch(item, packed, digest, progress)
        _unpack(item, packed, target)
        packed.unlink(missing_ok=True)


def _unpack(item: Item, packed: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        archive.unpack(packed, workshop / "made", item.unpacked or archive.MOST_BYTES)
        (workshop / "made").rename(target)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def publish(
    checkpoints: Iterable[str | os.PathLike[str]], base: str, *, overwrite: bool = False
) -> list[Item]:
    """Puts checkpoints into a store, which is made if it is not there.

    Args:
      checkpoints: their folders. The metadata's "model" and "weights" say what they are called;
        weights without a name are called as the folder.
      base: the store's address: a folder, gs://, s3:// or hf://.
      overwrite: replaces a checkpoint of the same names.

    Raises:
      CheckpointError: a folder is no checkpoint, is damaged, or does not say its model.
      StoreError: one of those names is there already, or the store cannot be written to.
    """
    if addresses.is_web(base):
        raise StoreError(
            f"{addresses.redact_address(base)} cannot be written to; publish to a folder, serve it"
        )
    if not base:
        raise StoreError("a store is a folder or an address, got ''")
    made, replaced = [], []
    with tempfile.TemporaryDirectory() as workshop, _alone(base):
        known = read_index(base) if _read(base, INDEX) is not None else {}
        for number, path in enumerate(map(Path, checkpoints)):
            metadata = restore(path).metadata
            model = metadata.get("model")
            weights = metadata.get("weights") or path.absolute().name
            if not model:
                raise CheckpointError(f"the metadata of {path} has no 'model'")
            try:
                name = f"{_checked(model)}-{_checked(weights)}"
            except ValueError as error:
                raise StoreError(f"the metadata of {path}: {error}") from error
            before = known.setdefault(model, {}).get(weights)
            if before and not overwrite:
                raise StoreError(f"{addresses.redact_address(base)} has {model} {weights} already")
            packed = Path(workshop) / str(number)
            unpacked = archive.pack(path, packed)
            sha256 = digests(packed, "sha256")[0]
            # A name of its own for each version: readers of the old index find what it lists.
            item = Item(base, f"{name}-{sha256[:8]}.tar", sha256, packed.stat().st_size, unpacked)
            _put(base, item.archive, packed)
            packed.unlink()
            known[model][weights] = item
            made.append(item)
            if before and before.archive != item.archive:
                replaced.append(before.archive)
        index = Path(workshop) / INDEX
        index.write_text(_text(known), encoding="utf-8")
        _put(base, INDEX, index)
        for name in replaced:
            _drop(base, name)
    return made


def _text(known: dict[str, dict[str, Item]]) -> str:
    """The index of what a store has."""
    fields = ("archive", "sha256", "size", "unpacked")
    listed = {
        model: {weights: {f: getattr(item, f) for f in fields} for weights, item in several.items()}
        for model, several in known.items()
    }
    return json.dumps({"format": FORMAT, "checkpoints": listed}, indent=1) + "\n"


@contextlib.contextmanager
def _alone(base: str) -> Iterator[None]:
    """One process at a time changes a folder's index; other places know no locks."""
    from filelock import FileLock

    local = _folder(base)
    try:
        if not local:
            yield
            return
        local.mkdir(parents=True, exist_ok=True)
        with FileLock(local / f".{INDEX}.lock"):
            yield
    except OSError as error:
        raise StoreError(
            f"{addresses.redact_address(base)} cannot be written to: {error.strerror}"
        ) from error


def _item(base: str, entry: dict[str, Any]) -> Item:
    item = Item(base, _checked(entry["archive"]), entry["sha256"], entry["size"], entry["unpacked"])
    if not re.fullmatch("[0-9a-f]{64}", item.sha256):
        raise ValueError(f"{item.archive} has no sha256")
    for number in (item.size, item.unpacked):
        if not isinstance(number, int) or not 0 < number <= archive.MOST_BYTES:
            raise ValueError(f"{item.archive} has a size of {number!r}")
    return item


def _checked(name: str) -> str:
    """A name that is one part of a path and nothing else."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name: letters, digits, and any of . _ + -")
    return name


def _folder(base: str) -> Path | None:
    """The store's folder, if it is one."""
    scheme = urlsplit(base).scheme
    if scheme == "file":
        return Path(url2pathname(urlsplit(base).path))
    return None if "://" in base else Path(base).expanduser()


def _read(base: str, name: str) -> bytes | None:
    """A small file of a store; None if it is not there."""
    local = _folder(base)
    address = f"{base.rstrip('/')}/{name}"
    if local:
        file = local / name
        return file.read_bytes() if file.is_file() else None
    if addresses.is_web(base):
        return addresses.read(address, MOST_INDEX_BYTES)
    with addresses.opened(address) as (files, path):
        return files.cat_file(path, 0, MOST_INDEX_BYTES) if files.exists(path) else None


def _fetch(item: Item, target: Path, digest: fetch.Digest, progress: fetch.Progress) -> None:
    """Downloads an archive; what fsspec reads begins anew if it breaks off."""
    if addresses.is_web(item.base):
        fetch.fetch(item.address, target, digest=digest, size=item.size, progress=progress)
        return
    part, folder = target.with_name(f"{target.name}.part"), target.parent
    most = item.size or archive.MOST_BYTES
    with fetch.locked(target):
        if held(target, digest):
            return
        if item.size:
            room(folder, item.size)
        with addresses.opened(item.address) as (files, path), files.open(path, "rb") as source:
            with place(folder):
                sink = part.open("wb", buffering=0)
            with sink:
                while block := source.read(1 << 20):
                    with place(folder, item.size):
                        sink.write(block)
                    progress(sink.tell(), item.size)
                    if sink.tell() > most:
                        raise fetch.FetchError(
                            f"{addresses.redact_address(item.address)} has more than {most} bytes"
                        )
        settle(part, digest, target, addresses.redact_address(item.address))


def _drop(base: str, name: str) -> None:
    """Removes a file of a store."""
    local = _folder(base)
    if local:
        (local / name).unlink(missing_ok=True)
        return
    with addresses.opened(f"{base.rstrip('/')}/{name}") as (files, path):
        files.rm_file(path)


def _put(base: str, name: str, file: Path) -> None:
    """Puts a file into a store, whole or not at all."""
    local = _folder(base)
    if local:
        local.mkdir(parents=True, exist_ok=True)
        beside = local / f".{name}.{os.getpid()}"
        try:
            shutil.copyfile(file, beside)
            beside.replace(local / name)
        finally:
            beside.unlink(missing_ok=True)
        return
    with addresses.opened(f"{base.rstrip('/')}/{name}") as (files, path):
        files.makedirs(path.rpartition("/")[0], exist_ok=True)
        files.put_file(str(file), path)
