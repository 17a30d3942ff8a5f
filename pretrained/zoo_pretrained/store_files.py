"""The files of a store, wherever it is: in a folder, or at an address."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from zoo_pretrained.addresses import (
    expand_home,
    is_http,
    open_filesystem,
    read_http,
    redact_address,
)
from zoo_pretrained.bounded_json import MAX_BYTES
from zoo_pretrained.printable import OneLineError
from zoo_pretrained.temporary import temporary_folder

INDEX = "index.json"


class StoreError(OneLineError):
    """A store cannot be used, or a checkpoint cannot be published there; names the store."""


@contextlib.contextmanager
def lock_store(store: str) -> Iterator[None]:
    """Lets one process at a time change a folder's index; other kinds of stores have no locks."""
    from filelock import FileLock

    folder = local_folder(store)
    try:
        if not folder:
            yield
            return
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{INDEX}.lock"):
            yield
    except OSError as error:
        raise StoreError(
            f"{redact_address(store)} cannot be written to: {error.strerror}"
        ) from error


def local_folder(store: str) -> Path | None:
    """Returns the store's folder; None if the store is elsewhere."""
    try:
        if store.lower().startswith("file:"):
            return Path(url2pathname(urlsplit(store).path))
        scheme, separator, place = store.partition("://")
        if separator and not (scheme and place.strip("/")):  # fsspec would take it for a folder
            raise ValueError("it names no place, as s3://bucket/zoo does")
        return None if separator else expand_home(store)
    except (FileNotFoundError, ValueError) as error:
        raise StoreError(f"{redact_address(store)} is not a store: {error}") from error


def join_address(store: str, name: str) -> str:
    """Returns the address of a file in a store."""
    return f"{store.rstrip('/')}/{name}"


def read_file(store: str, name: str) -> bytes | None:
    """Reads a small file of a store; None if it does not exist."""
    if folder := local_folder(store):
        file = folder / name
        if not file.is_file():
            return None
        with file.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    if is_http(store):
        return read_http(join_address(store, name), MAX_BYTES)
    with open_filesystem(join_address(store, name)) as (files, path):
        return files.cat_file(path, 0, MAX_BYTES + 1) if files.exists(path) else None


def upload(store: str, name: str, file: Path) -> None:
    """Writes a file to a store, where it appears complete or not at all."""
    if folder := local_folder(store):
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder / name) as temporary:
            shutil.copyfile(file, temporary / "new")
            (temporary / "new").replace(folder / name)
        return
    with open_filesystem(join_address(store, name)) as (files, path):
        files.makedirs(path.rpartition("/")[0], exist_ok=True)
        files.put_file(str(file), path)


def delete(store: str, name: str) -> None:
    """Deletes a file of a store."""
    if folder := local_folder(store):
        (folder / name).unlink(missing_ok=True)
        return
    with open_filesystem(join_address(store, name)) as (files, path):
        files.rm_file(path)
