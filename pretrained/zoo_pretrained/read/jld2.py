"""The state of a Flux model in a JLD2 file, which is HDF5 behind a header of 512 bytes.

Names are dotted paths of fields as Julia has them: `Flux.state` of a Chain gives
"layers.1.weight", "layers.2.σ²". What has no shape (numbers, strings, nothing) is left out. Julia's
arrays are column-major, so their axes show in reverse: a convolution's weight of Julia's shape
(width, height, in, out) is read as (out, in, height, width).
"""

from typing import Any

import numpy as np

from zoo_pretrained.read.files import UnreadableError
from zoo_pretrained.read.hdf5 import DEPTH, Store

HEADER = b"HDF5-based Julia Data Format"


def is_jld2(data: np.ndarray, store: Store) -> bool:
    """Whether JLD2 wrote an HDF5 file."""
    return bytes(data[: len(HEADER)]) == HEADER or store.has(store.root, "_types")


def from_store(store: Store) -> tuple[str, dict[str, np.ndarray]]:
    """The name of the only thing that was saved, or "", and the arrays."""
    saved = {name: child for name, child in store.children(store.root) if name != "_types"}
    state = _State(store)
    for name, child in saved.items():
        state.add(child, name, 0)
    wrapper = next(iter(saved)) if len(saved) == 1 else ""
    if not wrapper or wrapper in state.arrays:
        return "", state.arrays
    return wrapper, {path[len(wrapper) + 1 :]: array for path, array in state.arrays.items()}


class _State:
    """The arrays of a file, as they are found."""

    def __init__(self, store: Store) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._store = store

    def add(self, held: Any, path: str, depth: int) -> None:
        """Adds the arrays of a group or of a dataset."""
        store = self._store
        if depth > DEPTH:
            raise UnreadableError(f"is nested deeper than {DEPTH}, at {path[:80]!r}")
        if store.is_group(held):
            for name, child in store.children(held):
                self.add(child, f"{path}.{name}", depth + 1)
        elif store.is_dataset(held):
            if (array := store.array(held)) is not None:
                if array.ndim:
                    self._keep(array, path)
            elif (value := store.references(held)) is not None:
                self._items(value, path, depth)

    def _keep(self, array: np.ndarray, path: str) -> None:
        if path in self.arrays:
            raise UnreadableError(f"has two arrays of the name {path!r}")
        self.arrays[path] = array

    def _items(self, value: np.ndarray, path: str, depth: int) -> None:
        """Adds the arrays of records and of references, one or a list of them."""
        if value.ndim == 0:
            self._value(value[()], value.dtype, path, depth)
        else:
            for number, item in enumerate(value.ravel(), 1):
                self._value(item, value.dtype, f"{path}.{number}", depth)

    def _value(self, value: Any, dtype: np.dtype, path: str, depth: int) -> None:
        """Adds the arrays of a record's fields, or of what a reference points to."""
        if dtype.names is None:
            if value:
                self.add(self._store.follow(int(value)), path, depth + 1)
            return
        for name in dtype.names:
            self._store.count()
            self._value(value[name], dtype[name], f"{path}.{name}", depth)
