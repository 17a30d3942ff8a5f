"""Cuts the metadata out of image files, for those whose metadata keeps Pillow from reading them."""

import struct

_PNG = b"\x89PNG\r\n\x1a\n"
# PNG's chunks that the pixels depend on.
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
# JPEG's segments that hold metadata: comments, and applications' data but for APP0 (JFIF) and APP14
# (Adobe's, which says how colours are stored).
_JPEG_METADATA = {0xFE, *range(0xE1, 0xEE), 0xEF}
_JPEG_SCAN = 0xDA


def strip_metadata(data: bytes) -> bytes:
    """Returns a JPEG or PNG file without metadata; anything else as it is."""
    if data.startswith(b"\xff\xd8"):
        return _strip_jpeg(data)
    return _strip_png(data) if data.startswith(_PNG) else data


def _strip_jpeg(data: bytes) -> bytes:
    kept, at = [data[:2]], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _JPEG_SCAN:
        marker, length = struct.unpack_from(">xBH", data, at)
        if marker not in _JPEG_METADATA:
            kept.append(data[at : at + 2 + length])
        at += 2 + length
    return b"".join([*kept, data[at:]])


def _strip_png(data: bytes) -> bytes:
    kept, at = [_PNG], len(_PNG)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind in _PNG_CHUNKS:
            kept.append(data[at : at + 12 + length])
        at += 12 + length
    return b"".join(kept)
