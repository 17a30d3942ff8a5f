"""Arrays that are transposed and converted a chunk at a time, when they are written."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

# Large enough for a disk to be fast, small beside any layer that matters.
CHUNK_BYTES = 1 << 24


class LazyArray:
    """An array that is a view of another one, with its shape and dtype still to be applied.

    A kernel that is yet to be transposed or converted to float32 takes no memory in this way, and
    a file of weights is converted without a copy.

    Args:
      view: an array of any strides, such as a memory-mapped file's.
      shape: has as many entries as the view, which are the view's in C order; its own by default.
      dtype: of the entries; the view's by default.
    """

    def __init__(
        self, view: np.ndarray, shape: tuple[int, ...] | None = None, dtype: DTypeLike | None = None
    ) -> None:
        self.view = view
        self.shape = view.shape if shape is None else tuple(shape)
        self.dtype = view.dtype if dtype is None else np.dtype(dtype)
        if math.prod(self.shape) != view.size:
            raise ValueError(
                f"shape must have as many entries as the view's {view.shape}, got {self.shape}"
            )

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of entries."""
        return self.view.size

    def chunks(self, max_bytes: int = CHUNK_BYTES) -> Iterator[np.ndarray]:
        """Yields the entries in C order, as contiguous arrays of at most about `max_bytes`."""
        yield from _chunks(self.view, self.dtype, max(max_bytes // self.dtype.itemsize, 1))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a lazy array cannot become an array without a copy")
        return np.array(self.view, dtype or self.dtype, order="C").reshape(self.shape)


def _chunks(view: np.ndarray, dtype: np.dtype, max_entries: int) -> Iterator[np.ndarray]:
    if view.ndim == 0 or view.size <= max_entries:
        yield np.ascontiguousarray(view, dtype)
        return
    rows = max_entries // (view.size // len(view))
    if rows == 0:  # a single row is too large
        for row in view:
            yield from _chunks(row, dtype, max_entries)
        return
    for start in range(0, len(view), rows):
        yield np.ascontiguousarray(view[start : start + rows], dtype)
