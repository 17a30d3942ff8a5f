"""safetensors: a JSON header of names, dtypes, shapes and byte ranges, followed by the arrays."""

import math
from pathlib import PurePath
from typing import Any

import ml_dtypes
import numpy as np

from zoo_pretrained.bounded_json import parse_json
from zoo_pretrained.read.files import MAX_RANK, UnreadableError, view

_DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


def is_safetensors(data: np.ndarray) -> bool:
    """Whether the bytes begin with a length and a JSON object."""
    return bytes(data[8:9]) == b"{"


def is_index(data: np.ndarray) -> bool:
    """Whether the bytes are JSON, as the index of safetensors in several files is."""
    return bytes(data[:64]).lstrip().startswith(b"{") and not is_safetensors(data)


def parse_index(data: np.ndarray) -> dict[str, str]:
    """The names of arrays, and of the file beside the index that holds each.

    Raises:
      UnreadableError: it is no index, or names a file in another folder.
    """
    weight_map = parse_json(data.data).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UnreadableError("is JSON without the weight_map of a safetensors index")
    for name in weight_map.values():
        if not isinstance(name, str) or name != PurePath(name).name or "\\" in name:
            raise UnreadableError(f"names {name!r}, which is no file beside it")
    return weight_map


def from_bytes(data: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays, as views of the file, in the header's order.

    Raises:
      UnreadableError: the header is too long or damaged, or its ranges do not cover what follows it
        exactly, each byte once.
    """
    header, _, body = _parse_header(data)
    entries = {name: _parse_entry(name, entry) for name, entry in header.items()}
    end = 0
    for name, (_, _, start, stop) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if start != end:
            raise UnreadableError(f"has bytes that overlap or belong to nothing before {name!r}")
        end = stop
    if end != len(body):
        raise UnreadableError(f"has {len(body)} bytes of arrays where its header tells of {end}")
    return {
        name: view(body, dtype, shape, start) for name, (dtype, shape, start, _) in entries.items()
    }


def read_metadata(data: np.ndarray) -> dict[str, str]:
    """The texts that the header holds beside the arrays; errors as for `from_bytes`."""
    return _parse_header(data)[1]


def _parse_header(data: np.ndarray) -> tuple[dict[str, Any], dict[str, str], np.ndarray]:
    """The header's entries, its metadata, and the bytes of the arrays."""
    length = int.from_bytes(bytes(data[:8]), "little")
    if length > len(data) - 8:
        raise UnreadableError(f"declares a safetensors header of {length} bytes")
    header = parse_json(data[8 : 8 + length].data, object_pairs_hook=_refuse_duplicates)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(t, str) for t in metadata.values()):
        raise UnreadableError("has a safetensors header whose __metadata__ is no object of texts")
    return header, metadata, data[8 + length :]


def _parse_entry(name: str, entry: Any) -> tuple[np.dtype, list[int], int, int]:
    """An entry of the header: dtype, shape, first byte, and the byte after the last."""
    dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in _DTYPES:
        raise UnreadableError(
            f"has {name!r} of dtype {dtype!r}; these are read: {', '.join(_DTYPES)}"
        )
    numbers = (*shape, start, stop)
    if len(shape) > MAX_RANK or any(type(number) is not int or number < 0 for number in numbers):
        raise UnreadableError(f"has {name!r} of an impossible shape or place")
    if stop - start != math.prod(shape) * _DTYPES[dtype].itemsize:
        raise UnreadableError(f"has {stop - start} bytes for {name!r}, {dtype} of shape {shape}")
    return _DTYPES[dtype], shape, start, stop


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise UnreadableError("has a safetensors header with one name twice")
    return found
