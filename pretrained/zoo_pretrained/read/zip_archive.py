"""Members of a zip archive as arrays of bytes, views of the archive where they are stored."""

import itertools
import struct
import zipfile
import zlib

import numpy as np

from zoo_pretrained.read.files import LIMIT, ByteBudget, ByteStream, UnreadableError

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, and lengths of name and extra field


class ZipArchive:
    """A zip archive, whose central directory is checked against the members' own headers.

    Args:
      data: the archive's bytes.
      budget: limits what has to be inflated.

    Raises:
      UnreadableError: two members share a name or bytes, or one lies outside the file.
    """

    def __init__(self, data: np.ndarray, budget: ByteBudget) -> None:
        self._data, self._budget = data, budget
        with zipfile.ZipFile(ByteStream(data)) as file:
            members = file.infolist()
        self.members = {member.filename: member for member in members}
        if len(self.members) != len(members):
            raise UnreadableError("is a zip with several members of one name")
        spans = sorted((m.header_offset, self._data_start(m) + m.compress_size) for m in members)
        for (_, end), (start, _) in itertools.pairwise([*spans, (len(data), 0)]):
            if end > start:
                raise UnreadableError("is a zip whose members overlap, or is cut short")

    def read(self, name: str, limit: int = LIMIT) -> np.ndarray:
        """A member's bytes: a view of the archive where it is stored, otherwise inflated.

        Raises:
          UnreadableError: no such member, or one that is encrypted, damaged or larger than `limit`.
        """
        member = self.members.get(name)
        if member is None:
            raise UnreadableError(f"is a zip without {name!r}")
        if member.file_size > limit:
            raise UnreadableError(
                f"has {member.file_size} bytes in {name!r}; {limit} are the limit"
            )
        start = self._data_start(member)
        stored = self._data[start : start + member.compress_size]
        if member.flag_bits & 1:
            raise UnreadableError(f"has {name!r} encrypted")
        if member.compress_type == zipfile.ZIP_STORED:
            if member.file_size != member.compress_size:
                raise UnreadableError(
                    f"is a zip that contradicts itself about the size of {name!r}"
                )
            # PyTorch can leave the sums out, and writes 0 then.
            if member.CRC and zlib.crc32(stored.data) != member.CRC:
                raise UnreadableError(f"is damaged: {name!r} is not what the zip says of it")
            return stored
        if member.compress_type != zipfile.ZIP_DEFLATED:
            raise UnreadableError(f"has {name!r} compressed by method {member.compress_type}")
        self._budget.take(member.file_size, name)
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(stored.data, member.file_size + 1)
        if len(inflated) != member.file_size or zlib.crc32(inflated) != member.CRC:
            raise UnreadableError(f"is damaged: {name!r} is not what the zip says of it")
        return np.frombuffer(inflated, np.uint8)

    def _data_start(self, member: zipfile.ZipInfo) -> int:
        """The offset of a member's data, which follow its own header."""
        at = member.header_offset
        if not 0 <= at <= len(self._data) - _LOCAL_HEADER.size:
            raise UnreadableError("is a zip whose members lie outside it")
        mark, name, extra = _LOCAL_HEADER.unpack_from(self._data.data, at)
        if mark != b"PK\x03\x04":
            raise UnreadableError("is a zip with a member where there is none")
        return at + _LOCAL_HEADER.size + name + extra
