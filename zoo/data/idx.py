"""MNIST and the sets that have its form: idx files of grey images and their labels."""

import gzip
import math
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np

from zoo.data.dataset import Dataset, DatasetError
from zoo.data.published import PublishedFile, fetch_published, find_copy

# Of the images of EMNIST's largest part: 550 MB.
MAX_BYTES = 1 << 30
_UINT8 = 8  # the header's code of the type of the entries


class IdxSet(NamedTuple):
    """A published data set of idx files.

    Args:
      classes: their names, in the order of their numbers.
      address: of the folder with the files.
      files: the size and the SHA-256 of each.
      places: folders in which systems keep a copy.
      below: folders in which other libraries keep the files, relative to the folder that is given.
    """

    classes: tuple[str, ...]
    address: str
    files: Mapping[str, tuple[int, str]]
    places: tuple[str, ...]
    below: tuple[str, ...]


# Sizes and digests are those in the url_checksums of TensorFlow Datasets.
SETS = {
    "mnist": IdxSet(
        classes=tuple("0123456789"),
        # The copy of the Computer Vision Foundation; the set's home often refuses.
        address="https://storage.googleapis.com/cvdf-datasets/mnist",
        files={
            "train-images-idx3-ubyte": (
                9_912_422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            "train-labels-idx1-ubyte": (
                28_881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            "t10k-images-idx3-ubyte": (
                1_648_877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            "t10k-labels-idx1-ubyte": (
                4_542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        },
        places=(),
        below=("MNIST/raw", "raw"),
    ),
    "fashion-mnist": IdxSet(
        classes=(
            "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
            "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
        ),
        # Its home of idx files has no https; its repository has the same ones.
        address="https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/"
        "b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion",
        files={
            "train-images-idx3-ubyte": (
                26_421_880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            "train-labels-idx1-ubyte": (
                29_515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            "t10k-images-idx3-ubyte": (
                4_422_102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            "t10k-labels-idx1-ubyte": (
                5_148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        },
        places=("/usr/share/datasets/fashion-mnist",),  # Debian's dataset-fashion-mnist
        below=("FashionMNIST/raw", "raw"),
    ),
}  # fmt: skip


def load_idx_set(
    name: str, folder: str | os.PathLike[str] | None = None
) -> tuple[Dataset, Dataset]:
    """A data set of `SETS`: its training images and its test images, arrays [28, 28, 1].

    Args:
      name: "mnist" or "fashion-mnist".
      folder: where its four idx files are, compressed (".gz") or not. By default they are looked
        for where the system's packages keep them and in the cache, or else downloaded.

    Raises:
      DatasetError: a file is missing in the folder, or damaged.
      FetchError: they cannot be downloaded.
    """
    known = SETS[name]
    if folder is None:
        folder = next((place for place in known.places if Path(place).is_dir()), None)
    return _read_part(name, "train", folder), _read_part(name, "t10k", folder)


def read_idx(path: Path, rank: int) -> np.ndarray:
    """The array of bytes in an idx file, compressed if its name ends in ".gz".

    Args:
      path: the file.
      rank: the number of dimensions that it must have.

    Raises:
      DatasetError: the file cannot be read, is damaged, or holds another kind of array.
    """
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as stream:
            return _parse(cast(IO[bytes], stream), path, rank)
    except (OSError, EOFError, zlib.error) as error:
        cause = getattr(error, "strerror", None) or error
        raise DatasetError(f"{path} cannot be read: {cause}") from error


def _parse(stream: IO[bytes], path: Path, rank: int) -> np.ndarray:
    header = stream.read(4 + 4 * rank)
    if header[:4] != bytes((0, 0, _UINT8, rank)) or len(header) < 4 + 4 * rank:
        raise DatasetError(f"{path} is no idx file of bytes with {rank} dimensions")
    shape = tuple(np.frombuffer(header, ">u4", offset=4).tolist())
    size = math.prod(shape)
    if size > MAX_BYTES:
        raise DatasetError(f"{path} holds an array {shape}, more than {MAX_BYTES >> 20} MiB")
    data = stream.read(size + 1)
    if len(data) != size:
        raise DatasetError(
            f"{path} is damaged: {shape} are {size} bytes, and there are {len(data)}"
        )
    return np.frombuffer(data, np.uint8).reshape(shape).copy()  # that can be written to


def _read_part(name: str, part: str, folder: str | os.PathLike[str] | None) -> Dataset:
    known, arrays = SETS[name], []
    for file, rank in ((f"{part}-images-idx3-ubyte", 3), (f"{part}-labels-idx1-ubyte", 1)):
        if folder is None:
            published = PublishedFile(f"{known.address}/{file}.gz", *known.files[file])
            path = fetch_published(published, name)
        else:
            path = find_copy(name, (file, f"{file}.gz"), folder, known.below)
        arrays.append(read_idx(path, rank))
    images: Any = arrays[0][..., np.newaxis]
    return Dataset(images=images, labels=arrays[1], classes=known.classes)
