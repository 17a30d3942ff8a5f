"""What lies in the headers of HDF5 objects, texts above all, taken from the file's bytes.

The library is not asked for texts: where they can be of any length, damage makes it walk a heap
for ever, or clear gigabytes of memory (2.0 among others). Attributes are read where they lie in an
object's header, as in what Keras writes; where a file in HDF5's later form has more than eight
of one object, it is refused. Section numbers are those of the HDF5 File Format
Specification, version 3.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from zoo_pretrained.read.files import TEXT_LIMIT, UnreadableError

_CONTINUATION, _ATTRIBUTE, _ATTRIBUTE_INFO, _LAYOUT = 0x10, 0x0C, 0x15, 0x08
_NOWHERE = b"\xff" * 8  # an address
_FIXED, _VARIABLE = 3, 9  # classes of a datatype
_ELEMENT = struct.Struct("<IQI")  # of a string of any length: bytes, its heap, its number there
_PIECE = struct.Struct("<HHIQ")  # of a heap: number, references, reserved, bytes
_LIMIT = 100_000  # messages of an object, strings of an attribute, pieces of a heap


class Headers:
    """The object headers of a file.

    Args:
      data: the file's bytes.
      base: where HDF5 begins in it, from which it counts.
    """

    def __init__(self, data: np.ndarray, base: int) -> None:
        self._data, self._base = data[base:], base

    def texts(self, address: int) -> dict[str, list[str]]:
        """An object's attributes that are strings, by name.

        Args:
          address: the object's, as the library tells it.
        """
        found = {}
        for kind, flags, body in self._messages(address):
            if kind == _ATTRIBUTE_INFO and body[4 if body[1] & 1 else 2 :][:8] != _NOWHERE:
                raise UnreadableError("has an object of so many attributes that they lie elsewhere")
            if kind == _ATTRIBUTE and not flags & 2:  # 2 is a message that lies elsewhere
                name, datatype, count, values = _attribute(body)
                if datatype[0] & 15 == _FIXED:
                    size = int.from_bytes(datatype[4:8], "little")
                    if size * count > len(values):
                        raise UnreadableError(f"has an attribute {name!r} that is cut short")
                    pieces = (values[at : at + size] for at in range(0, size * count, size or 1))
                    found[name] = [_decoded(piece) for piece in pieces]
                elif datatype[0] & 15 == _VARIABLE and datatype[1] & 15 == 1:
                    found[name] = list(self._variable(values, count))
        return found

    def compact(self, address: int) -> np.ndarray:
        """The bytes of a dataset that lie in its header (section IV.A.2.i)."""
        for kind, _, body in self._messages(address):
            if kind == _LAYOUT and body[0] in (3, 4) and body[1] == 0:
                return np.frombuffer(body[4 : 4 + int.from_bytes(body[2:4], "little")], np.uint8)
        raise UnreadableError("has a dataset whose bytes are not where it says")

    def _take(self, start: int, size: int) -> bytes:
        if not 0 <= start <= start + size <= len(self._data):
            raise UnreadableError(f"is cut short or damaged: {size} bytes at {start} are not there")
        return bytes(self._data[start : start + size])

    def _messages(self, address: int) -> Iterator[tuple[int, int, bytes]]:
        """The messages of an object's header: type, flags and body (section IV.A.1)."""
        if self._take(address, 4) == b"OHDR":
            flags = self._take(address + 5, 1)[0]
            start = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
            width = 1 << (flags & 3)
            size = int.from_bytes(self._take(start, width), "little")
            blocks = [(start + width, size)]
            form = _Form("<BHB", 2 if flags & 4 else 0, 4)
        else:
            size = int.from_bytes(self._take(address + 8, 4), "little")
            blocks = [(address + 16, size)]
            form = _Form("<HHB", 3, 0)
        left = _LIMIT
        prefix = struct.calcsize(form.prefix)
        for start, size in blocks:
            block, at = self._take(start, min(size, TEXT_LIMIT)), 0
            while at + prefix + form.skip <= len(block):
                left -= 1
                kind, length, flags = struct.unpack_from(form.prefix, block, at)
                at += prefix + form.skip
                body, at = block[at : at + length], at + length
                if kind == _CONTINUATION:
                    more, size = struct.unpack_from("<QQ", body)
                    blocks.append((more + form.signature, size - 2 * form.signature))
                if left < 0 or len(blocks) > 1000:
                    raise UnreadableError("has an object whose header does not end")
                yield kind, flags, body

    def _variable(self, values: bytes, count: int) -> Iterator[str]:
        """Strings from the heaps that their elements point to (section III.E)."""
        if count > _LIMIT or count * _ELEMENT.size > len(values):
            raise UnreadableError(f"has an attribute of {count} strings, more than it can hold")
        heaps: dict[int, dict[int, tuple[int, int]]] = {}
        left = TEXT_LIMIT
        for size, address, number in _ELEMENT.iter_unpack(values[: count * _ELEMENT.size]):
            left -= size
            if size == 0:
                yield ""
                continue
            if address not in heaps:
                heaps[address] = self._heap(address)
            start, there = heaps[address].get(number, (0, 0))
            if size > there or left < 0:
                raise UnreadableError(f"has a string of {size} bytes where there are {there}")
            yield _decoded(self._take(start, size))

    def _heap(self, address: int) -> dict[int, tuple[int, int]]:
        """Where the pieces of a heap begin, and their sizes, by number."""
        if self._take(address, 5) != b"GCOL\x01":
            raise UnreadableError("has a string in what is no heap")
        end = address + int.from_bytes(self._take(address + 8, 8), "little")
        at, pieces = address + 16, dict[int, tuple[int, int]]()
        while at + _PIECE.size <= end and len(pieces) < _LIMIT:
            number, _, _, size = _PIECE.unpack(self._take(at, _PIECE.size))
            if number == 0:
                break  # free space, which is the rest
            pieces[number] = at + _PIECE.size, size
            at += _PIECE.size + -(-size // 8) * 8
        return pieces


class _Form(NamedTuple):
    """How a header's messages begin, and how many bytes a signature or a sum takes in a block."""

    prefix: str
    skip: int
    signature: int


def _attribute(body: bytes) -> tuple[str, bytes, int, bytes]:
    """Name, datatype, count and values of an attribute (section IV.A.2.m)."""
    version, _, name_size, type_size, space_size = struct.unpack_from("<BBHHH", body)
    at, pad = (9 if version == 3 else 8), (8 if version == 1 else 1)
    parts = []
    for size in (name_size, type_size, space_size):
        parts.append(body[at : at + size])
        at += -(-size // pad) * pad
    name, datatype, space = parts
    return _decoded(name), datatype, _count(space), body[at:]


def _count(space: bytes) -> int:
    """How many values a dataspace of rank 0 or 1 has; 0 for others, which no list of names has."""
    version, rank, _, kind = space[:4]
    if rank == 0:
        return 0 if version == 2 and kind == 2 else 1
    return int.from_bytes(space[8 if version == 1 else 4 :][:8], "little") if rank == 1 else 0


def _decoded(text: bytes) -> str:
    return text.partition(b"\0")[0].decode()
