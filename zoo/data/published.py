"""Files of published data sets: a copy that is there, or else a verified download in the cache."""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

from zoo.data.dataset import DatasetError
from zoo.data.files import check_folder
from zoo_pretrained import cache, fetch
from zoo_pretrained.fetch.errors import format_bytes


@dataclasses.dataclass(frozen=True)
class PublishedFile:
    """A file at its publisher's.

    Args:
      url: its address, which ends in its name.
      size: in bytes.
      sha256: its digest.
    """

    url: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]


def fetch_published(file: PublishedFile, dataset: str) -> Path:
    """Downloads a file of a data set into the cache, unless it is there; it is verified always.

    Raises:
      OfflineError: it is not there, and `ZOO_OFFLINE` is set.
      FetchError: it cannot be downloaded, or is not what was published.
    """
    path = cache.download_path(f"{dataset}--{file.name}")
    digest = fetch.Digest("sha256", file.sha256)
    try:
        with fetch.progress_bar(f"{dataset} {file.name}") as progress:
            fetch.fetch(file.url, path, digest=digest, size=file.size, progress=progress)
    except (fetch.OfflineError, fetch.UnreachableError) as error:
        raise type(error)(
            f"{error}; {dataset} is also read from a folder that has {file.name}, which takes "
            f"{format_bytes(file.size)}"
        ) from None
    return path


def find_copy(
    dataset: str, names: Iterable[str], folder: str | os.PathLike[str], below: Iterable[str] = ()
) -> Path:
    """The first of some files that is in a folder.

    Args:
      dataset: the data set's name, for the message.
      names: the files' names, any of which will do.
      folder: where to look first.
      below: where to look then, relative to `folder`.

    Raises:
      DatasetError: there is none.
    """
    root, names = Path(check_folder(folder)), list(names)
    for place in (root, *(root / part for part in below)):
        for name in names:
            if (place / name).is_file():
                return place / name
    raise DatasetError(
        f"{root} has no {dataset}: expected {' or '.join(names)}, there or in "
        f"{', '.join(below)}. Without a folder it is downloaded"
    )
