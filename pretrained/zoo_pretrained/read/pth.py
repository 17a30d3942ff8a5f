"""State dicts that PyTorch has saved, in its zip (since 1.6) or in its older stream of pickles.

Tensors are views of the file. Both formats are little-endian, whatever wrote them, except for a zip
that says "big" in its entry `byteorder`; the older stream's writer swaps bytes where it must.
"""

import functools
import io
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from zoo_pretrained.read.archive import Archive
from zoo_pretrained.read.files import TEXT_LIMIT, Allowance, UnreadableError, view
from zoo_pretrained.read.pickles import Known, Storage, Tensor, load

MAGIC = (119547037146038801333356, 1001)  # of the older format, and its version
# Under which checkpoints keep the state dict, the first of them first.
WRAPPERS = ("state_dict", "model_state_dict", "model", "model_ema", "state_dict_ema", "ema")


def is_stream(data: np.ndarray) -> bool:
    """Whether the bytes begin as the older format does."""
    return data[:1] == b"\x80"[0] and MAGIC[0].to_bytes(10, "little") in bytes(data[:32])


def from_zip(archive: Archive, allowance: Allowance) -> tuple[str, dict[str, np.ndarray]]:
    """The wrapper's name, or "", and the arrays of a zip, in their order."""
    pickles = [name for name in archive.members if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise UnreadableError(f"is a zip with {len(pickles)} entries data.pkl, not one")
    folder = pickles[0].removesuffix("data.pkl")
    order = b"little"
    if f"{folder}byteorder" in archive.members:
        order = archive.read(f"{folder}byteorder", limit=16).tobytes()
    if order not in (b"little", b"big"):
        raise UnreadableError(f"has the byte order {order!r}")
    held = load(io.BytesIO(archive.read(pickles[0], limit=TEXT_LIMIT).data), _storage)

    @functools.cache  # tensors can share a storage, which is not to be inflated twice
    def source(key: str) -> _Source:
        return _Source(archive.read(f"{folder}data/{key}"), order == b"big")

    return _arrays(held, source, allowance)


def from_stream(data: np.ndarray, allowance: Allowance) -> tuple[str, dict[str, np.ndarray]]:
    """The wrapper's name, or "", and the arrays of the older format, in their order."""
    stream = io.BytesIO(data[:TEXT_LIMIT].data)
    if (load(stream), load(stream)) != MAGIC:
        raise UnreadableError("is of another version of PyTorch's older format")
    load(stream)  # the writer's byte order and sizes of integers, which the data do not depend on
    sizes: dict[str, int] = {}
    held = load(stream, lambda identity: _storage(identity, sizes))
    keys = load(stream)
    sources: dict[str, _Source] = {}
    at = stream.tell()
    for key in keys:
        (entries,) = struct.unpack_from("<q", data.data, at)
        if entries < 0 or key in sources:
            raise UnreadableError(f"has a storage {key!r} of {entries} entries, or twice")
        end = at + 8 + entries * sizes[key]
        if end > len(data):
            raise UnreadableError(
                f"is cut short: its storage {key!r} ends at byte {end} of {len(data)}"
            )
        sources[key] = _Source(data[at + 8 : end], swapped=False)
        at = end
    return _arrays(held, sources.__getitem__, allowance)


class _Source(NamedTuple):
    """The bytes of a storage, and whether they are big-endian."""

    data: np.ndarray
    swapped: bool


def _storage(identity: Any, sizes: dict[str, int] | None = None) -> Storage:
    """A storage from its persistent id; notes the bytes of an entry in `sizes`."""
    mark, kind, key, _, entries, *rest = identity
    if mark != "storage" or not isinstance(kind, Known) or not kind.name.endswith("Storage"):
        raise UnreadableError("refers to something that is no storage")
    if not isinstance(key, str) or type(entries) is not int or kind.dtype is None:
        raise UnreadableError("refers to a storage without a name or a size")
    first = 0
    if rest and rest[0] is not None:
        _, first, entries = rest[0]  # a part of the storage that the key names
    if sizes is not None and sizes.setdefault(key, kind.dtype.itemsize) != kind.dtype.itemsize:
        raise UnreadableError(f"refers to the storage {key!r} in two sizes")
    return Storage(key, kind.dtype, entries, first)


def _arrays(
    held: Any, source: Callable[[str], _Source], allowance: Allowance
) -> tuple[str, dict[str, np.ndarray]]:
    """The arrays of a state dict, or of the one inside a checkpoint."""
    wrapper, tensors = "", _tensors(held)
    for name in WRAPPERS:
        if not tensors and isinstance(held, Mapping) and (tensors := _tensors(held.get(name))):
            wrapper = name
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    found = {}
    for name, tensor in tensors.items():
        found[name] = _array(tensor, source(tensor.storage.key))
        allowance.take(found[name].nbytes, name)
    return wrapper, found


def _tensors(held: Any) -> dict[str, Tensor]:
    """A dict's tensors by their names; nothing where there are none."""
    if not isinstance(held, Mapping):
        return {}
    return {
        name: tensor
        for name, tensor in held.items()
        if isinstance(name, str) and isinstance(tensor, Tensor)
    }


def _array(tensor: Tensor, source: _Source) -> np.ndarray:
    storage, size = tensor.storage, tensor.dtype.itemsize
    if storage.entries < 0 or storage.first < 0 or tensor.offset < 0:
        raise UnreadableError("has a storage or a tensor that begins before its start")
    start = storage.first * storage.dtype.itemsize
    data = source.data[start : start + storage.entries * storage.dtype.itemsize]
    dtype, swap = tensor.dtype, source.swapped and size > 1
    if swap:  # bfloat16 knows no byte order, so its bytes are swapped as integers
        dtype = np.dtype(f">u{size}") if dtype.kind == "V" else dtype.newbyteorder(">")
    strides = [stride * size for stride in tensor.strides]
    array = view(data, dtype, tensor.shape, tensor.offset * size, strides)
    return array.astype(f"u{size}").view(tensor.dtype) if swap and dtype.kind == "u" else array
