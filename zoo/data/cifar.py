"""CIFAR-10 and CIFAR-100, small colour photos, of their binary version.

Their Python version, pickles of arrays, is not read: the zoo's reader of pickles knows tensors, and
Python's own runs what a file says. Alex Krizhevsky, "Learning Multiple Layers of Features from Tiny
Images", 2009.
"""

import os
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.data.dataset import Dataset, DatasetError
from zoo.data.published import PublishedFile, fetch_published, find_copy

# The largest, CIFAR-100's training images, are 154 MB.
MAX_BYTES = 256 << 20
_PIXELS = (3, 32, 32)


class CifarSet(NamedTuple):
    """How one of the sets is stored.

    Args:
      archive: with all of its files in a folder.
      folder: the folder's name.
      python: the name of the folder of the Python version.
      train, test: the names of the files of images.
      names: the name of the file with the classes' names.
      label_bytes: before each image's pixels; the last one is the class.
    """

    archive: PublishedFile
    folder: str
    python: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    label_bytes: int


# Sizes and digests are those in the url_checksums of TensorFlow Datasets.
SETS = {
    "cifar10": CifarSet(
        archive=PublishedFile(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
        folder="cifar-10-batches-bin",
        python="cifar-10-batches-py",
        train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        test=("test_batch.bin",),
        names="batches.meta.txt",
        label_bytes=1,
    ),
    "cifar100": CifarSet(
        archive=PublishedFile(
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            168_513_733,
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        ),
        folder="cifar-100-binary",
        python="cifar-100-python",
        train=("train.bin",),
        test=("test.bin",),
        names="fine_label_names.txt",
        label_bytes=2,
    ),
}


def load_cifar(name: str, folder: str | os.PathLike[str] | None = None) -> tuple[Dataset, Dataset]:
    """CIFAR-10 or CIFAR-100: its training images and its test images, arrays [32, 32, 3].

    Args:
      name: "cifar10" or "cifar100".
      folder: where the binary version is, as the archive "cifar-10-binary.tar.gz" or unpacked. By
        default the archive is looked for in the cache, or else downloaded.

    Raises:
      DatasetError: a file is missing in the folder, or damaged.
      FetchError: the archive cannot be downloaded.
    """
    known = SETS[name]
    place = fetch_published(known.archive, name) if folder is None else _find(name, known, folder)
    wanted = (*known.train, *known.test, known.names)
    files = _read_archive(place, wanted) if place.is_file() else _read_folder(place, wanted)
    classes = tuple(files[known.names].decode().split())
    train, test = (
        _parse(place, known, classes, {file: files[file] for file in names})
        for names in (known.train, known.test)
    )
    return train, test


def _find(name: str, known: CifarSet, folder: str | os.PathLike[str]) -> Path:
    """The archive, or the folder with the unpacked files."""
    try:
        found = find_copy(name, (known.test[0], known.archive.name), folder, (known.folder,))
    except DatasetError as error:
        if not Path(folder, known.python).is_dir():
            raise
        raise DatasetError(
            f"{error}; {known.python} is the Python version, which is not read: "
            f"{known.archive.url} is the binary one"
        ) from None
    return found if found.name == known.archive.name else found.parent


def _read_folder(folder: Path, wanted: Sequence[str]) -> Mapping[str, bytes]:
    try:
        return {name: (folder / name).read_bytes() for name in wanted}
    except OSError as error:
        raise DatasetError(f"{error.filename} cannot be read: {error.strerror}") from error


def _read_archive(archive: Path, wanted: Sequence[str]) -> Mapping[str, bytes]:
    """The wanted files of an archive, in memory: nothing is unpacked to the disk."""
    files = {}
    try:
        with tarfile.open(archive, "r:gz") as opened:
            for member in opened:
                name = member.name.rpartition("/")[2]
                if name in wanted and member.isfile() and member.size <= MAX_BYTES:
                    stream = opened.extractfile(member)
                    files[name] = stream.read() if stream else b""
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{archive} is damaged: {error}") from error
    if missing := [name for name in wanted if name not in files]:
        raise DatasetError(f"{archive} lacks {', '.join(missing)}")
    return files


def _parse(
    place: Path, known: CifarSet, classes: tuple[str, ...], files: Mapping[str, bytes]
) -> Dataset:
    size = known.label_bytes + int(np.prod(_PIXELS))
    for name, data in files.items():
        if not data or len(data) % size:
            raise DatasetError(
                f"{name} in {place} is damaged: it has {len(data)} bytes, and each image {size}"
            )
    rows = np.frombuffer(b"".join(files.values()), np.uint8).reshape(-1, size)
    labels, planes = rows[:, known.label_bytes - 1], rows[:, known.label_bytes :]
    images: Any = np.ascontiguousarray(planes.reshape(-1, *_PIXELS).transpose(0, 2, 3, 1))
    return Dataset(images=images, labels=labels, classes=classes)
