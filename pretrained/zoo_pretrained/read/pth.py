"""State dicts that PyTorch has saved, in its zip (since 1.6) or in its legacy stream of pickles.

Tensors are views of the file. Both formats are little-endian on every machine, except for a zip
that says "big" in its entry `byteorder`; the writer of the legacy format swaps bytes.
"""

import collections
import functools
import io
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from zoo_pretrained.read.files import (
    TEXT_LIMIT,
    ByteBudget,
    UnreadableError,
    list_some,
    view,
)
from zoo_pretrained.read.pickle_globals import Global, OperationBudget, Storage, Tensor, is_place
from zoo_pretrained.read.pickles import load
from zoo_pretrained.read.zip_archive import ZipArchive
from zoo_pretrained.spelling import argument

MAX_PATH = 400  # characters of the keys that lead to a dict; deeper ones are not looked for
MAX_PLACES = 50_000  # that dicts are in; most are of an optimizer's state, one for each tensor
MAGIC = (119547037146038801333356, 1001)  # of the legacy format, and its version
# Keys under which checkpoints keep the state dict, in the order in which they are tried.
RAW_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "params", "weights")
# The same of the moving average of the weights.
EMA_WRAPPERS = ("model_ema", "state_dict_ema", "ema_state_dict", "params_ema", "ema")
# What wraps a model adds to all of its names: DataParallel and AveragedModel, torch.compile.
PREFIXES = ("module.", "_orig_mod.")


def is_legacy(data: np.ndarray) -> bool:
    """Whether the bytes begin as the legacy format does."""
    return data[:1] == b"\x80"[0] and MAGIC[0].to_bytes(10, "little") in bytes(data[:32])


class StateDict(NamedTuple):
    """The arrays of a checkpoint, and where they are in it.

    Args:
      path: the keys of the dict that holds them, joined by dots; "" for the file's own.
      arrays: by name, in the file's order.
      averages: the path of averaged weights that are beside them, or "".
    """

    path: str
    arrays: dict[str, np.ndarray]
    averages: str = ""


def from_zip(archive: ZipArchive, budget: ByteBudget, inside: str | None = None) -> StateDict:
    """The state dict of a zip: that at the path `inside` if there is one, or the default."""
    pickles = [name for name in archive.members if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise UnreadableError(f"is a zip with {len(pickles)} entries data.pkl, not one")
    folder = pickles[0].removesuffix("data.pkl")
    order = b"little"
    if f"{folder}byteorder" in archive.members:
        order = archive.read(f"{folder}byteorder", limit=16).tobytes()
    if order not in (b"little", b"big"):
        raise UnreadableError(f"has the byte order {order!r}")
    stream = io.BytesIO(archive.read(pickles[0], limit=TEXT_LIMIT).data)
    value = load(stream, OperationBudget(), _parse_storage)

    @functools.cache  # tensors can share a storage, which is then inflated once
    def read_storage(key: str) -> _StorageData:
        return _StorageData(archive.read(f"{folder}data/{key}"), order == b"big")

    return _to_arrays(value, read_storage, budget, inside)


def from_legacy(data: np.ndarray, budget: ByteBudget, inside: str | None = None) -> StateDict:
    """The state dict of a file of the legacy format, as `from_zip`."""
    stream = io.BytesIO(data[:TEXT_LIMIT].data)
    operations = OperationBudget()
    if (load(stream, operations), load(stream, operations)) != MAGIC:
        raise UnreadableError("is of another version of PyTorch's older format")
    # The writer's byte order and integer sizes, on which the data do not depend.
    load(stream, operations)
    sizes: dict[str, int] = {}
    value = load(stream, operations, lambda identity: _parse_storage(identity, sizes))
    keys = load(stream, operations)
    storages: dict[str, _StorageData] = {}
    at = stream.tell()
    for key in keys:
        (entries,) = struct.unpack_from("<q", data.data, at)
        if not isinstance(key, str) or key not in sizes:  # others may take for ever to hash
            raise UnreadableError("has a storage that no tensor is in")
        if entries < 0 or key in storages:
            raise UnreadableError(f"has a storage {key!r} of {entries} entries, or twice")
        end = at + 8 + entries * sizes[key]
        if end > len(data):
            raise UnreadableError(
                f"is cut short: its storage {key!r} ends at byte {end} of {len(data)}"
            )
        storages[key] = _StorageData(data[at + 8 : end], swapped=False)
        at = end
    return _to_arrays(value, storages.__getitem__, budget, inside)


def drop_prefixes(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Drops what wrappers of models add to all names, and the counter that AveragedModel adds."""
    names = [name for name in arrays if name != "n_averaged"]
    for prefix in PREFIXES * len(PREFIXES):  # in any order
        if names and all(name.startswith(prefix) for name in names):
            arrays = {n.removeprefix(prefix): arrays[n] for n in arrays if n != "n_averaged"}
            names = list(arrays)
    return dict(arrays)


class _StorageData(NamedTuple):
    """The bytes of a storage; `swapped` if they are big-endian."""

    data: np.ndarray
    swapped: bool


def _parse_storage(identity: Any, sizes: dict[str, int] | None = None) -> Storage:
    """The storage of a persistent id; records the bytes of one element, by key, in `sizes`."""
    if not isinstance(identity, tuple) or len(identity) not in (5, 6):
        raise UnreadableError("refers to something that is no storage")
    tag, kind, key, _, entries, *rest = identity
    if tag != "storage" or not isinstance(kind, Global) or not kind.name.endswith("Storage"):
        raise UnreadableError("refers to something that is no storage")
    first = 0
    if rest and rest[0] is not None:
        _, first, entries = rest[0]  # a part of the storage that the key names
    if not isinstance(key, str) or kind.dtype is None or not all(map(is_place, (first, entries))):
        raise UnreadableError("refers to a storage without a name, a place or a size")
    if sizes is not None and sizes.setdefault(key, kind.dtype.itemsize) != kind.dtype.itemsize:
        raise UnreadableError(f"refers to the storage {key!r} in two sizes")
    return Storage(key, kind.dtype, entries, first)


def _to_arrays(
    value: Any,
    read_storage: Callable[[str], _StorageData],
    budget: ByteBudget,
    inside: str | None,
) -> StateDict:
    """The arrays of a state dict, or of one in a checkpoint."""
    state_dicts = dict(_find_state_dicts(value))
    path = inside if inside is not None and inside in state_dicts else _choose(state_dicts)
    found = {}
    for name, tensor in drop_prefixes(state_dicts.get(path, {})).items():
        found[name] = _to_array(tensor, read_storage(tensor.storage.key))
        budget.take(found[name].nbytes, name)
    averages = [p for p in state_dicts if p != path and _last(p) in EMA_WRAPPERS]
    return StateDict(path, found, averages[0] if averages and path != inside else "")


def _find_state_dicts(value: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yields each dict that holds tensors, with its path: a checkpoint's own, and nested ones.

    A dict may be in several places, in itself too: it is looked through once.
    """
    tensors_of: dict[int, dict[str, Tensor]] = {}
    pending = collections.deque([("", value)] if isinstance(value, Mapping) else [])
    places = 0
    while pending:
        path, found = pending.popleft()
        if id(found) not in tensors_of:
            tensors_of[id(found)] = _find_tensors(found)
            prefix = f"{path}." if path else ""
            for key, inner in found.items():
                if isinstance(inner, Mapping) and len(prefix) + len(key) <= MAX_PATH:
                    pending.append((prefix + key, inner))
                    places += 1
            if places > MAX_PLACES:
                raise UnreadableError(f"has dicts in more than {MAX_PLACES} places")
        if tensors_of[id(found)]:
            yield path, tensors_of[id(found)]


def _choose(state_dicts: Mapping[str, Any]) -> str:
    """The path of the dict that holds the weights, where none is asked for.

    A dict under a known key comes before tensors beside it, such as the best accuracy; a single
    dict may have any key.
    """
    for wrappers in (RAW_WRAPPERS, EMA_WRAPPERS):
        known = [path for path in state_dicts if path and _last(path) in wrappers]
        if known:
            return min(known, key=lambda path: (path.count("."), wrappers.index(_last(path))))
    if "" in state_dicts or not state_dicts:
        return ""
    if len({id(tensors) for tensors in state_dicts.values()}) > 1:
        listed = list_some(map(repr, state_dicts))
        raise UnreadableError(
            f"holds several dicts of tensors, {listed}: say which by {argument('inside')}"
        )
    return next(iter(state_dicts))


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _find_tensors(value: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors in a dict by name."""
    return {name: tensor for name, tensor in value.items() if isinstance(tensor, Tensor)}


def _to_array(tensor: Tensor, stored: _StorageData) -> np.ndarray:
    storage, size = tensor.storage, tensor.dtype.itemsize
    if storage.entries < 0 or storage.first < 0 or tensor.offset < 0:
        raise UnreadableError("has a storage or a tensor that begins before its start")
    start = storage.first * storage.dtype.itemsize
    data = stored.data[start : start + storage.entries * storage.dtype.itemsize]
    dtype, swap = tensor.dtype, stored.swapped and size > 1
    if swap:  # bfloat16 has no byte order, so its bytes are swapped as integers
        dtype = np.dtype(f">u{size}") if dtype.kind == "V" else dtype.newbyteorder(">")
    strides = [stride * size for stride in tensor.strides]
    array = view(data, dtype, tensor.shape, tensor.offset * size, strides)
    return array.astype(f"u{size}").view(tensor.dtype) if swap and dtype.kind == "u" else array
