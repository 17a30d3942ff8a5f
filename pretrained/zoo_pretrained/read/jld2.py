"""The state of a Flux model in a JLD2 file, which is HDF5 behind a header of 512 bytes.

Names are dotted paths of Julia's fields: `Flux.state` of a Chain gives
"layers.1.weight", "layers.2.σ²". What has no shape (numbers, strings, nothing) is left out. Julia's
arrays are column-major, so their axes are reversed here: a convolution's weight of Julia's shape
(width, height, in, out) is read as (out, in, height, width).
"""

from typing import Any

import numpy as np

from zoo_pretrained.read.files import UnreadableError, check_name
from zoo_pretrained.read.hdf5 import DEPTH, Hdf5File

HEADER = b"HDF5-based Julia Data Format"


def is_jld2(data: np.ndarray, file: Hdf5File) -> bool:
    """Whether JLD2 wrote an HDF5 file."""
    return bytes(data[: len(HEADER)]) == HEADER or file.has(file.root, "_types")


def from_hdf5(file: Hdf5File) -> tuple[str, dict[str, np.ndarray]]:
    """The name of the wrapper, if a single thing was saved, or "", and the arrays."""
    saved = {name: child for name, child in file.children(file.root) if name != "_types"}
    state = _State(file)
    for name, child in saved.items():
        state.add(child, name, 0)
    wrapper = next(iter(saved)) if len(saved) == 1 else ""
    if not wrapper or wrapper in state.arrays:
        return "", state.arrays
    return wrapper, {path[len(wrapper) + 1 :]: array for path, array in state.arrays.items()}


class _State:
    """Collects the arrays of a file."""

    def __init__(self, file: Hdf5File) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._file = file

    def add(self, node: Any, path: str, depth: int) -> None:
        """Adds the arrays of a group or of a dataset."""
        file = self._file
        if depth > DEPTH:
            raise UnreadableError(f"is nested deeper than {DEPTH}, at {path[:80]!r}")
        check_name(path)
        if file.is_group(node):
            for name, child in file.children(node):
                self.add(child, f"{path}.{name}", depth + 1)
        elif file.is_dataset(node):
            if (array := file.array(node)) is not None:
                if array.ndim:
                    self._add_array(array, path)
            elif (value := file.references(node)) is not None:
                self._add_items(value, path, depth)

    def _add_array(self, array: np.ndarray, path: str) -> None:
        if path in self.arrays:
            raise UnreadableError(f"has two arrays of the name {path!r}")
        self.arrays[path] = array

    def _add_items(self, value: np.ndarray, path: str, depth: int) -> None:
        """Adds the arrays of records and of references, one or a list of them."""
        if value.ndim == 0:
            self._add_value(value[()], value.dtype, path, depth)
        else:
            for number, item in enumerate(value.ravel(), 1):
                self._add_value(item, value.dtype, f"{path}.{number}", depth)

    def _add_value(self, value: Any, dtype: np.dtype, path: str, depth: int) -> None:
        """Adds the arrays of a record's fields, or of what a reference points to."""
        if dtype.names is None:
            if value:
                self.add(self._file.follow(int(value)), path, depth + 1)
            return
        for name in dtype.names:
            self._file.count_objects()
            self._add_value(value[name], dtype[name], f"{path}.{name}", depth)
