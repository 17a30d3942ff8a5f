"""Stores: folders or addresses where a group shares checkpoints.

A store has an `index.json`, and one tar archive for each checkpoint:

    {"format": 1, "checkpoints": {MODEL: {WEIGHTS: {"archive": "MODEL-WEIGHTS-1f2e3d4c.tar",
     "sha256": …, "size": …, "unpacked": …}}}}

`size` and `unpacked` are in bytes. A store is named by its folder, or by an address of https://,
gs://, s3:// or hf:// (hf://USER/REPO for a model repository of the Hugging Face hub).
"""

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from zoo_pretrained import archive, cache, fetch
from zoo_pretrained.addresses import (
    is_http,
    open_filesystem,
    redact_address,
)
from zoo_pretrained.bounded_json import check_json, parse_json
from zoo_pretrained.checkpoint import (
    Checkpoint,
    CheckpointError,
    check_checkpoint,
    read_metadata,
    restore,
)
from zoo_pretrained.fetch.errors import check_disk_space, translate_os_errors
from zoo_pretrained.fetch.files import compute_digests, verify_and_move, verify_existing
from zoo_pretrained.fetch.http import split_url
from zoo_pretrained.model_card import make_model_card
from zoo_pretrained.printable import printable
from zoo_pretrained.spelling import argument
from zoo_pretrained.store_files import (
    INDEX,
    delete,
    join_address,
    local_folder,
    lock_store,
    read_file,
    upload,
)
from zoo_pretrained.store_files import StoreError as StoreError
from zoo_pretrained.temporary import temporary_folder

FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")


# Raises an error for a checkpoint that is not what is wanted; takes it, and where it is.
CheckCheckpoint = Callable[[Checkpoint, str], None]


class StoredArchive(NamedTuple):
    """A checkpoint's archive in a store.

    Args:
      store: the store's folder or address.
      archive: the file's name there.
      sha256: of the archive.
      size, unpacked: in bytes, of the archive and of the checkpoint's files; None if not known.
    """

    store: str
    archive: str
    sha256: str
    size: int | None = None
    unpacked: int | None = None

    @property
    def address(self) -> str:
        """The archive's address."""
        return join_address(self.store, self.archive)


Index = dict[str, dict[str, StoredArchive]]  # model → weights → archive


def configured_stores() -> list[str]:
    """Returns the stores that `$ZOO_STORES` lists, separated by commas.

    Raises:
      SettingError: one of them is neither a folder nor an address, or one of plain http.
    """
    listed = os.environ.get("ZOO_STORES", "").split(",")
    stores = [store.strip() for store in listed if store.strip()]
    for store in stores:
        try:
            if is_http(store):
                split_url(store)
            else:
                local_folder(store)
        except (ValueError, StoreError, fetch.FetchError) as error:
            name = store.rpartition("@")[2].partition("?")[0]  # without what may be secret
            raise fetch.SettingError(
                f"ZOO_STORES must list folders and addresses of https, gs, s3 or hf, got {name!r}: "
                f"{error}"
            ) from error
    return stores


def read_index(store: str) -> Index:
    """Reads a store's index: model → weights → archive.

    Raises:
      StoreError: there is no index, or it is malformed.
      FetchError: the store cannot be reached.
    """
    text = read_file(store, INDEX)
    if text is None:
        raise StoreError(f"{redact_address(store)} is not a store: it has no {INDEX}")
    try:
        index = parse_json(text)
        if index["format"] != FORMAT:
            found = printable(repr(index["format"]))
            raise ValueError(f"format {found}; this version reads {FORMAT}")
        return {
            _check_name(model): {
                _check_name(weights): _parse_entry(store, entry)
                for weights, entry in entries.items()
            }
            for model, entries in index["checkpoints"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        cause = printable(f"{type(error).__name__}: {error}")
        raise StoreError(
            f"the {INDEX} of {redact_address(store)} cannot be used: {cause}"
        ) from error


def find_archive(url: str) -> StoredArchive:
    """Finds an archive's digest, in its store's index or in the URL, as in …#sha256=HEX.

    Raises:
      StoreError: neither gives a digest.
    """
    address, _, fragment = url.partition("#")
    store, _, name = address.rpartition("/")
    if fragment:
        match = re.fullmatch(r"sha256=([0-9a-f]{64})", fragment)
        if not match or not _NAME.fullmatch(name):
            raise StoreError(
                f"an address must end in the archive's name and #sha256= with 64 digits, "
                f"got {redact_address(url)!r}"
            )
        return StoredArchive(store, name, match[1])
    for archives in read_index(store).values():
        for stored in archives.values():
            if stored.archive == name:
                return stored
    raise StoreError(
        f"{redact_address(store)} has no archive {name!r} in its {INDEX}, so nothing "
        f"verifies it; an address outside a store must end in #sha256=…"
    )


def download_archive(stored: StoredArchive, target: Path, check: CheckCheckpoint) -> None:
    """Downloads an archive, verifies it, and unpacks it to a folder, which appears complete.

    Args:
      stored: the archive.
      target: the folder to make.
      check: is called before the folder appears.

    Raises:
      FetchError: the archive cannot be downloaded, or is not what the index says.
      ArchiveError: the archive is not safe to unpack.
    """
    digest = fetch.Digest("sha256", stored.sha256)
    if folder := local_folder(stored.store):
        packed = folder / stored.archive
        if not packed.is_file():
            raise StoreError(f"the store {folder} lists {stored.archive!r}, which is not there")
        fetch.verify(packed, digest)
        _unpack(stored, packed, target, check)
        return
    packed = cache.download_path(f"{stored.sha256[:16]}-{stored.archive}")
    # Two checkpoints may come from one archive, which must stay until both are unpacked.
    with cache.use_download(packed):
        with fetch.progress_bar(stored.archive) as progress:
            _download(stored, packed, digest, progress)
        _unpack(stored, packed, target, check)
        packed.unlink(missing_ok=True)


def _unpack(stored: StoredArchive, packed: Path, target: Path, check: CheckCheckpoint) -> None:
    """Unpacks an archive to a temporary folder, and renames it to the target if it is sound.

    Nothing else may enter the cache: it would be found damaged, kept, and fetched again each time.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(target) as temporary:
        new = temporary / "new"
        archive.unpack_archive(packed, new, stored.unpacked or archive.MAX_BYTES)
        try:
            checkpoint = restore(new)
        except CheckpointError as error:
            reason = str(error).replace(str(new), stored.archive)
            raise archive.ArchiveError(
                f"{redact_address(stored.address)} holds no sound checkpoint: {reason}"
            ) from error
        check(checkpoint, redact_address(stored.address))
        new.rename(target)


def publish(
    checkpoints: Iterable[str | os.PathLike[str]], store: str, *, overwrite: bool = False
) -> list[StoredArchive]:
    """Publishes checkpoints in a store, which is created if it does not exist.

    Beside each archive lies a model card, for people: "<archive>.md".

    Args:
      checkpoints: their folders. They are published under the "model" and "weights" of their
        metadata; weights without a name take the folder's.
      store: a folder, or an address of gs://, s3:// or hf://.
      overwrite: replaces a checkpoint of the same names.

    Returns:
      The new archives, in order.

    Raises:
      CheckpointError: a folder is not a checkpoint, is damaged, or does not name its model.
      StoreError: a checkpoint of these names exists, or the store cannot be written to.
    """
    if is_http(store):
        raise StoreError(
            f"{redact_address(store)} cannot be written to; "
            f"publish to a folder, and serve that folder there"
        )
    if not store:
        raise StoreError("a store must be a folder or an address, got ''")
    paths = [Path(path) for path in checkpoints]
    for path in paths:
        read_metadata(path)  # raises before there is a store
    published: list[StoredArchive] = []
    replaced: list[str] = []
    place = Path(tempfile.gettempdir()) / "jax-zoo-publish"
    with temporary_folder(place) as temporary, lock_store(store):
        index = read_index(store) if read_file(store, INDEX) is not None else {}
        for number, path in enumerate(paths):
            variables, metadata = restore(path)
            try:
                check_checkpoint(variables, metadata)
            except ValueError as error:
                raise StoreError(f"the checkpoint {path} cannot be used: {error}") from error
            model = metadata.get("model")
            weights = metadata.get("weights") or path.absolute().name
            if not model:
                raise CheckpointError(f"the metadata of {path} has no 'model'")
            try:
                name = f"{_check_name(model)}-{_check_name(weights)}"
            except ValueError as error:
                raise StoreError(f"the metadata of {path}: {error}") from error
            previous = index.setdefault(model, {}).get(weights)
            if previous and not overwrite:
                raise StoreError(
                    f"{redact_address(store)} has {model} {weights} already; "
                    f"{argument('overwrite', True)} replaces it"
                )
            packed = temporary / str(number)
            unpacked = archive.pack(path, packed)
            sha256 = compute_digests(packed, "sha256")[0]
            # Each version has its own name, so that readers of the old index find what it lists.
            stored = StoredArchive(
                store, f"{name}-{sha256[:8]}.tar", sha256, packed.stat().st_size, unpacked
            )
            upload(store, stored.archive, packed)
            card = make_model_card({**metadata, "weights": weights}, stored.archive)
            packed.write_text(card, encoding="utf-8")
            upload(store, card_name(stored.archive), packed)
            packed.unlink()
            index[model][weights] = stored
            published.append(stored)
            if previous and previous.archive != stored.archive:
                replaced.append(previous.archive)
        file = temporary / INDEX
        file.write_text(_format_index(index), encoding="utf-8")
        upload(store, INDEX, file)
        for name in replaced:
            delete(store, name)
            delete(store, card_name(name))
    return published


def card_name(archive_name: str) -> str:
    """The name of an archive's model card."""
    return archive_name.removesuffix(".tar") + ".md"


def _format_index(index: Index) -> str:
    """Writes an index as JSON."""
    keys = ("archive", "sha256", "size", "unpacked")
    entries = {
        model: {
            weights: {key: getattr(stored, key) for key in keys}
            for weights, stored in archives.items()
        }
        for model, archives in index.items()
    }
    text = json.dumps({"format": FORMAT, "checkpoints": entries}, indent=1) + "\n"
    try:
        check_json(text.encode())
    except ValueError as error:
        raise StoreError(f"the store is full: its {INDEX} would be {error}") from error
    return text


def _parse_entry(store: str, entry: dict[str, Any]) -> StoredArchive:
    """Reads an entry of an index; ValueError if a value in it is impossible."""
    name = _check_name(entry["archive"])
    stored = StoredArchive(store, name, entry["sha256"], entry["size"], entry["unpacked"])
    if not re.fullmatch("[0-9a-f]{64}", stored.sha256):
        raise ValueError(f"{name} has no sha256")
    for size in (stored.size, stored.unpacked):
        if not isinstance(size, int) or not 0 < size <= archive.MAX_BYTES:
            raise ValueError(f"{name} has a size of {printable(repr(size))}")
    return stored


def _check_name(name: str) -> str:
    """Returns a name; ValueError unless it is safe as a single part of a path."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"{printable(repr(name))} is not a name: use letters, digits, and any of . _ + -"
        )
    return name


def _download(
    stored: StoredArchive, target: Path, digest: fetch.Digest, progress: fetch.Progress
) -> None:
    """Downloads an archive; through fsspec, an interrupted download starts again."""
    if is_http(stored.store):
        fetch.fetch(stored.address, target, digest=digest, size=stored.size, progress=progress)
        return
    part, folder = target.with_name(f"{target.name}.part"), target.parent
    name = redact_address(stored.address)
    max_bytes = stored.size or archive.MAX_BYTES
    with fetch.hold_lock(target):
        if verify_existing(target, digest):
            return
        if stored.size:
            check_disk_space(folder, stored.size)
        with open_filesystem(stored.address) as (files, path), files.open(path, "rb") as source:
            with translate_os_errors(folder):
                sink = part.open("wb", buffering=0)
            with sink:
                while chunk := source.read(1 << 20):
                    with translate_os_errors(folder, stored.size):
                        sink.write(chunk)
                    progress(sink.tell(), stored.size)
                    if sink.tell() > max_bytes:
                        raise fetch.FetchError(f"{name} has more than {max_bytes} bytes")
        verify_and_move(part, digest, target, name)
