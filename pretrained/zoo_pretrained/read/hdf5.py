"""The part of HDF5 that files of weights need, with bounds checked before the library reads.

Nothing outside the file is opened: soft and external links, external and virtual datasets are
refused. Contiguous datasets become views of the file.
"""

import importlib
import io
import itertools
import math
import zlib
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

from zoo_pretrained.natural_order import natural_key
from zoo_pretrained.read.files import SMALL, ByteBudget, ByteStream, UnreadableError, view
from zoo_pretrained.read.headers import Headers

SIGNATURE = b"\x89HDF\r\n\x1a\n"
DEPTH = 64
# Groups and datasets, counted each time one is opened; and layers of configurations, counted each
# time they are looked through.
OBJECTS = 20_000
TYPE_BYTES = 256  # of a type's description, that count as an object
CHUNK_BYTES = 1024  # that a chunk costs beside what it holds
_DEFLATE, _SHUFFLE, _FLETCHER32 = 1, 2, 3


def find_start(data: np.ndarray) -> int:
    """The offset at which HDF5 begins, which a user block may precede; -1 if it is not HDF5."""
    places = itertools.takewhile(lambda at: at < len(data), (0, *(512 << n for n in range(12))))
    return next((at for at in places if bytes(data[at : at + 8]) == SIGNATURE), -1)


class Hdf5File:
    """An open HDF5 file; a context manager.

    Args:
      data: the file's bytes.
      budget: limits the arrays.
    """

    def __init__(self, data: np.ndarray, budget: ByteBudget) -> None:
        try:
            self._h5: Any = importlib.import_module(
                "h5py"
            )  # a dependency that only these files need
        except ModuleNotFoundError as error:
            raise UnreadableError("is HDF5, which needs h5py: pip install h5py") from error
        self._data, self._budget = data, budget
        self._headers = Headers(data, find_start(data))
        self._opened = 0
        self._followed: dict[int, Any] = {}
        self._holder: tuple[io.BytesIO, int, Any] | None = None
        self.root = self._h5.File(ByteStream(data), "r")

    def __enter__(self) -> "Hdf5File":
        return self

    def __exit__(self, *_: object) -> None:
        self.root.close()
        if self._holder:
            self._holder[2].close()

    def children(self, group: Any) -> Iterator[tuple[str, Any]]:
        """The members of a group by name, in natural order: "conv2d_2" before "conv2d_10"."""
        for name in sorted(group, key=natural_key):
            yield name, self.child(group, name)

    def child(self, group: Any, path: str) -> Any:
        """The group or dataset at a path below a group.

        Raises:
          UnreadableError: there is none, or it is a soft or external link.
        """
        for name in path.split("/"):
            if not self.is_group(group) or not self.has(group, name):
                raise UnreadableError(f"has nothing at {path!r}")
            link = group.id.links.get_info(name.encode())
            if link.type != self._h5.h5l.TYPE_HARD:
                raise UnreadableError(f"has a link to another place at {name!r}, not followed")
            self.count_objects()
            group = group[name]
        return group

    def has(self, group: Any, name: str) -> bool:
        """Whether a group has a member; h5py's `in` would open the file that a link points to."""
        return group.id.links.exists(name.encode())

    def follow(self, address: int) -> Any:
        """The object at the address that a reference holds."""
        self.count_objects()
        if address not in self._followed:
            self._followed[address] = self.root[self._reference(address)]
        return self._followed[address]

    def _reference(self, address: int) -> Any:
        """A reference to an address; h5py makes one only by reading it, so it is given a file.

        Only the dataset is opened again for each, which takes a hundredth of the time of a file.
        """
        if not self._holder:
            memory = io.BytesIO()
            with self._h5.File(memory, "w") as file:
                null = self._h5.Reference()
                offset = file.create_dataset(
                    "it", data=null, dtype=self._h5.ref_dtype
                ).id.get_offset()
            self._holder = memory, offset, self._h5.File(memory, "r")
        memory, offset, file = self._holder
        memory.seek(offset)
        memory.write(address.to_bytes(8, "little"))
        return file["it"][()]

    def count_objects(self, count: int = 1) -> None:
        """Counts opened objects; raises UnreadableError after too many, as in a circle."""
        self._opened += count
        if self._opened > OBJECTS:
            raise UnreadableError(f"leads to more than {OBJECTS} objects, perhaps in a circle")

    def is_group(self, found: Any) -> bool:
        """Whether an object is a group."""
        return isinstance(found, self._h5.Group)

    def is_dataset(self, found: Any) -> bool:
        """Whether an object is a dataset."""
        return isinstance(found, self._h5.Dataset)

    def text_attributes(self, owner: Any) -> dict[str, list[str]]:
        """The attributes of a group or dataset that are strings, by name."""
        return self._headers.text_attributes(self._address(owner))

    def _address(self, node: Any) -> int:
        return self._h5.h5o.get_info(node.id).addr

    def references(self, dataset: Any) -> np.ndarray | None:
        """The references in a dataset of records or of references, as addresses; 0 is a null one.

        Other fields are left out. The library would convert them too, and strings of variable
        length can be bombs (see `headers`), so the bytes are read from the file directly.

        Returns:
          None where there are none.
        """
        dtype, _ = self._references(dataset.id.get_type())
        if dtype is None or dataset.shape is None or 0 in dataset.shape:
            return None
        size = math.prod(dataset.shape) * dtype.itemsize
        if size > SMALL:
            raise UnreadableError(f"has records of {size} bytes at {dataset.name!r}")
        layout = dataset.id.get_create_plist().get_layout()
        if layout == self._h5.h5d.CONTIGUOUS and (offset := dataset.id.get_offset()) is not None:
            return view(self._data, dtype, dataset.shape, offset)
        if layout == self._h5.h5d.COMPACT:
            return view(self._headers.compact_data(self._address(dataset)), dtype, dataset.shape, 0)
        raise UnreadableError(f"has records in pieces, or none, at {dataset.name!r}")

    def _references(self, kind: Any) -> tuple[np.dtype | None, int]:
        """A type reduced to the fields that are references, or records that hold some.

        Returns:
          The dtype, or None; and the bytes that the type takes in the file. The library tells the
          size in memory, where strings and lists of variable length are shorter.
        """
        h5t = self._h5.h5t
        if kind.equal(h5t.STD_REF_OBJ):
            return np.dtype("<u8"), 8
        if isinstance(kind, h5t.TypeVlenID) or (
            isinstance(kind, h5t.TypeStringID) and kind.is_variable_str()
        ):
            return None, 16
        if not isinstance(kind, h5t.TypeCompoundID):
            return None, kind.get_size()
        names, formats, offsets, more = [], [], [], 0
        for n in range(kind.get_nmembers()):
            member = kind.get_member_type(n)
            field, size = self._references(member)
            if field is not None:
                names.append(kind.get_member_name(n).decode())
                formats.append(field)
                offsets.append(kind.get_member_offset(n) + more)
            more += size - member.get_size()
        size = kind.get_size() + more
        if not names:
            return None, size
        return np.dtype(
            {"names": names, "formats": formats, "offsets": offsets, "itemsize": size}
        ), size

    def dtype(self, dataset: Any) -> np.dtype:
        """A dataset's dtype; an empty one where NumPy has none."""
        _refuse_external(self._h5, dataset)
        # A type may have thousands of fields, in every dataset.
        self.count_objects(len(dataset.id.get_type().encode()) // TYPE_BYTES)
        try:
            return dataset.dtype
        except TypeError:
            return np.dtype("V")

    def array(self, dataset: Any) -> np.ndarray | None:
        """The numbers of a dataset; None where it holds something else.

        Raises:
          UnreadableError: they lie in another file, or are fewer than declared.
        """
        h5 = self._h5
        dtype = self.dtype(dataset)
        bfloat16 = dtype == np.dtype("V2") and self.text_attributes(dataset).get("dtype") == [
            "bfloat16"
        ]
        if bfloat16:  # as Keras saves it
            dtype = np.dtype(ml_dtypes.bfloat16)
        elif dtype.kind not in "fiub" or dataset.shape is None:
            return None
        shape = dataset.shape
        nbytes = math.prod(shape) * dtype.itemsize
        self._take(nbytes, dataset)
        if nbytes == 0:
            return np.zeros(shape, dtype)
        same = bfloat16 or dataset.id.get_type() == h5.h5t.py_create(dataset.dtype, logical=True)
        layout = dataset.id.get_create_plist().get_layout()
        if layout == h5.h5d.CHUNKED and same:
            return self._chunked(dataset, dtype)
        if layout == h5.h5d.CONTIGUOUS:
            offset = dataset.id.get_offset()
            if offset is None:
                raise UnreadableError(
                    f"declares {nbytes} bytes at {dataset.name!r} and stores none of them"
                )
            stored = view(self._data, np.dtype("u1"), [dataset.id.get_storage_size()], offset)
            if same:
                return view(stored, dtype, shape, 0)
        if layout == h5.h5d.CHUNKED or nbytes > SMALL:
            raise UnreadableError(f"has numbers of an unusual type at {dataset.name!r}")
        return np.asarray(dataset[()]).view(dtype)

    def _take(self, nbytes: int, dataset: Any) -> None:
        """Takes a dataset's bytes from the budget.

        Its name is only asked for where too few are left: for what a reference has led to, the
        library looks through the whole file for it.
        """
        self._budget.take(nbytes, str(dataset.name) if nbytes > self._budget.left else "")

    def _chunked(self, dataset: Any, dtype: np.dtype) -> np.ndarray:
        """Assembles chunks; the library's own filters do not limit what they inflate."""
        properties, chunk = dataset.id.get_create_plist(), dataset.chunks
        filters = [properties.get_filter(n)[0] for n in range(properties.get_nfilters())]
        if len(set(filters)) < len(filters) or set(filters) - {_DEFLATE, _SHUFFLE, _FLETCHER32}:
            raise UnreadableError(
                f"has {dataset.name!r} packed by filters that are not read: {filters}"
            )
        size = math.prod(chunk) * dtype.itemsize
        pieces: list[Any] = []

        def add(piece: Any) -> None:
            # A chunk may be larger than the dataset, and an index may lead to one again and again.
            self._take(CHUNK_BYTES + size, dataset)
            pieces.append(piece)

        grid = (-(-n // step) for n, step in zip(dataset.shape, chunk, strict=True))
        dataset.id.chunk_iter(add)
        if len({piece.chunk_offset for piece in pieces}) != math.prod(grid):
            raise UnreadableError(f"lacks some of the chunks of {dataset.name!r}")
        array = np.zeros(dataset.shape, dtype)
        for piece in pieces:
            stored = view(self._data, np.dtype("u1"), [piece.size], piece.byte_offset)
            for number in reversed(range(len(filters))):
                if not piece.filter_mask >> number & 1:
                    stored = _undo_filter(stored, filters[number], size, dtype.itemsize)
            target = array[
                tuple(slice(at, at + n) for at, n in zip(piece.chunk_offset, chunk, strict=True))
            ]
            target[...] = view(stored, dtype, chunk, 0)[tuple(slice(n) for n in target.shape)]
        return array


def _undo_filter(stored: np.ndarray, by: int, size: int, itemsize: int) -> np.ndarray:
    """Undoes one filter of a chunk that has `size` bytes without its filters."""
    if by == _FLETCHER32:
        return stored[:-4]  # without the checksum, which the hash of the file makes superfluous
    if by == _SHUFFLE:
        return np.ascontiguousarray(stored.reshape(itemsize, -1).T).reshape(-1)
    return np.frombuffer(zlib.decompressobj().decompress(stored.data, size + 4), np.uint8)


def _refuse_external(h5: Any, dataset: Any) -> None:
    """Raises UnreadableError where the numbers are in another file, before the shape is read."""
    properties = dataset.id.get_create_plist()
    if properties.get_layout() == h5.h5d.VIRTUAL or properties.get_external_count():
        raise UnreadableError(f"has its numbers of {dataset.name!r} in another file")
