"""Arrays that are laid out only when they are needed, a piece at a time."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

# A piece of this many bytes is large enough for a disk, and small beside any layer that matters.
PIECE = 1 << 24


class Lazy:
    """An array that a view of another one stands for: its entries, in C order, are the view's.

    A kernel that has yet to be transposed, or to become float32, costs no memory in this way, and
    a file of weights can be converted without a copy of it.

    Args:
      view: an array of any strides, perhaps a memory-mapped file's.
      shape: of as many entries as the view has; the view's own by default.
      dtype: what the entries become; the view's own by default.
    """

    def __init__(
        self, view: np.ndarray, shape: tuple[int, ...] | None = None, dtype: DTypeLike | None = None
    ) -> None:
        self.view = view
        self.shape = view.shape if shape is None else tuple(shape)
        self.dtype = view.dtype if dtype is None else np.dtype(dtype)
        if math.prod(self.shape) != view.size:
            raise ValueError(f"{self.shape} has not as many entries as {view.shape}")

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of entries."""
        return self.view.size

    def pieces(self, limit: int = PIECE) -> Iterator[np.ndarray]:
        """Contiguous arrays that make up the whole, in C order, of some `limit` bytes each."""
        yield from _pieces(self.view, self.dtype, max(limit // self.dtype.itemsize, 1))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a lazy array cannot become an array without a copy")
        return np.array(self.view, dtype or self.dtype, order="C").reshape(self.shape)


def _pieces(view: np.ndarray, dtype: np.dtype, limit: int) -> Iterator[np.ndarray]:
    if view.ndim == 0 or view.size <= limit:
        yield np.ascontiguousarray(view, dtype)
        return
    rows = limit // (view.size // len(view))
    if rows == 0:  # a row is too much already
        for row in view:
            yield from _pieces(row, dtype, limit)
        return
    for start in range(0, len(view), rows):
        yield np.ascontiguousarray(view[start : start + rows], dtype)
