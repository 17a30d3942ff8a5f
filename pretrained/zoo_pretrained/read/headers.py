"""Reader of HDF5 object headers, mainly of text attributes, from the file's bytes.

The library is not used for texts: where they have variable lengths, damage makes it walk a heap for
ever, or clear gigabytes of memory (2.0 among others). Only attributes inside an object's header are
read, as Keras writes them; a file in HDF5's later form that has more than eight attributes of one
object, and so keeps them elsewhere, is refused. A file decides how often a part of it is read:
attributes may share a string, and objects a header. So all that is read counts against one limit.
Section numbers are those of the HDF5 File Format Specification, version 3.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from zoo_pretrained.read.files import TEXT_LIMIT, UnreadableError

_CONTINUATION, _ATTRIBUTE, _ATTRIBUTE_INFO, _LAYOUT = 0x10, 0x0C, 0x15, 0x08
_NO_ADDRESS = b"\xff" * 8  # an address that points to nothing
_FIXED, _VARIABLE = 3, 9  # classes of a datatype
_ELEMENT = struct.Struct("<IQI")  # of a variable-length string: its bytes, heap and number there
_HEAP_OBJECT = struct.Struct("<HHIQ")  # of a heap: number, references, reserved, bytes
_OVERHEAD = 64  # bytes that a message, a string or a heap's object takes beside its own


class Headers:
    """The object headers of a file.

    Args:
      data: the file's bytes.
      base: the offset at which HDF5 begins, from which addresses count.
    """

    def __init__(self, data: np.ndarray, base: int) -> None:
        self._data, self._left = data[base:], TEXT_LIMIT
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}

    def text_attributes(self, address: int) -> dict[str, list[str]]:
        """An object's attributes that are strings, by name.

        Args:
          address: the object's, as the library gives it.
        """
        found = {}
        for kind, flags, body in self._messages(address):
            if kind == _ATTRIBUTE_INFO and body[4 if body[1] & 1 else 2 :][:8] != _NO_ADDRESS:
                raise UnreadableError("has an object of so many attributes that they lie elsewhere")
            if (
                kind == _ATTRIBUTE and not flags & 2
            ):  # 2 marks a shared message, which is stored elsewhere
                name, datatype, count, values = _parse_attribute(body)
                if datatype[0] & 15 == _FIXED:
                    size = int.from_bytes(datatype[4:8], "little")
                    if size * count > len(values):
                        raise UnreadableError(f"has an attribute {name!r} that is cut short")
                    self._take(count * _OVERHEAD)
                    strings = (values[at : at + size] for at in range(0, size * count, size or 1))
                    found[name] = [_decode(string) for string in strings]
                elif datatype[0] & 15 == _VARIABLE and datatype[1] & 15 == 1:
                    found[name] = list(self._variable_strings(values, count))
        return found

    def compact_data(self, address: int) -> np.ndarray:
        """The bytes of a dataset that is stored in its header (section IV.A.2.i)."""
        for kind, _, body in self._messages(address):
            if kind == _LAYOUT and body[0] in (3, 4) and body[1] == 0:
                return np.frombuffer(body[4 : 4 + int.from_bytes(body[2:4], "little")], np.uint8)
        raise UnreadableError("has a dataset whose bytes are not where it says")

    def _take(self, nbytes: int) -> None:
        """Counts bytes that are read; raises UnreadableError after too many."""
        self._left -= nbytes
        if self._left < 0:
            raise UnreadableError(f"has headers and texts of more than {TEXT_LIMIT >> 20} MiB")

    def _read(self, start: int, size: int) -> bytes:
        self._take(size)
        if not 0 <= start <= start + size <= len(self._data):
            raise UnreadableError(f"is cut short or damaged: {size} bytes at {start} are not there")
        return bytes(self._data[start : start + size])

    def _messages(self, address: int) -> Iterator[tuple[int, int, bytes]]:
        """The messages of an object's header: type, flags and body (section IV.A.1)."""
        if self._read(address, 4) == b"OHDR":
            flags = self._read(address + 5, 1)[0]
            start = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
            width = 1 << (flags & 3)
            size = int.from_bytes(self._read(start, width), "little")
            blocks = [(start + width, size)]
            layout = _MessageFormat("<BHB", 2 if flags & 4 else 0, 4)
        else:
            size = int.from_bytes(self._read(address + 8, 4), "little")
            blocks = [(address + 16, size)]
            layout = _MessageFormat("<HHB", 3, 0)
        prefix = struct.calcsize(layout.prefix)
        for start, size in blocks:
            block, at = self._read(start, min(size, TEXT_LIMIT)), 0
            while at + prefix + layout.skip <= len(block):
                self._take(_OVERHEAD)
                kind, length, flags = struct.unpack_from(layout.prefix, block, at)
                at += prefix + layout.skip
                body, at = block[at : at + length], at + length
                if kind == _CONTINUATION:
                    more, size = struct.unpack_from("<QQ", body)
                    blocks.append((more + layout.signature, size - 2 * layout.signature))
                yield kind, flags, body

    def _variable_strings(self, values: bytes, count: int) -> Iterator[str]:
        """Variable-length strings, from the heaps that their elements point to (section III.E)."""
        if count * _ELEMENT.size > len(values):
            raise UnreadableError(f"has an attribute of {count} strings, more than it can hold")
        for size, address, number in _ELEMENT.iter_unpack(values[: count * _ELEMENT.size]):
            self._take(_OVERHEAD)
            if size == 0:
                yield ""
                continue
            if address not in self._heaps:
                self._heaps[address] = self._heap(address)
            start, available = self._heaps[address].get(number, (0, 0))
            if size > available:
                raise UnreadableError(f"has a string of {size} bytes where there are {available}")
            yield _decode(self._read(start, size))

    def _heap(self, address: int) -> dict[int, tuple[int, int]]:
        """The offsets and sizes of the objects of a heap, by number."""
        if self._read(address, 5) != b"GCOL\x01":
            raise UnreadableError("has a string in what is no heap")
        end = address + int.from_bytes(self._read(address + 8, 8), "little")
        at, objects = address + 16, dict[int, tuple[int, int]]()
        while at + _HEAP_OBJECT.size <= end:
            self._take(_OVERHEAD)
            number, _, _, size = _HEAP_OBJECT.unpack(self._read(at, _HEAP_OBJECT.size))
            if number == 0:
                break  # free space, which is the rest
            objects[number] = at + _HEAP_OBJECT.size, size
            at += _HEAP_OBJECT.size + -(-size // 8) * 8
        return objects


class _MessageFormat(NamedTuple):
    """How a header's messages begin, and the bytes of a block's signature, or of its checksum."""

    prefix: str
    skip: int
    signature: int


def _parse_attribute(body: bytes) -> tuple[str, bytes, int, bytes]:
    """Name, datatype, count and values of an attribute (section IV.A.2.m)."""
    version, _, name_size, type_size, space_size = struct.unpack_from("<BBHHH", body)
    at, pad = (9 if version == 3 else 8), (8 if version == 1 else 1)
    parts = []
    for size in (name_size, type_size, space_size):
        parts.append(body[at : at + size])
        at += -(-size // pad) * pad
    name, datatype, space = parts
    return _decode(name), datatype, _count_values(space), body[at:]


def _count_values(space: bytes) -> int:
    """The number of values in a dataspace of rank 0 or 1; 0 for others, which names do not have."""
    version, rank, _, kind = space[:4]
    if rank == 0:
        return 0 if version == 2 and kind == 2 else 1
    return int.from_bytes(space[8 if version == 1 else 4 :][:8], "little") if rank == 1 else 0


def _decode(text: bytes) -> str:
    return text.partition(b"\0")[0].decode()
