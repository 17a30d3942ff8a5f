"""How fast a training gets on, and how long it waits for its input."""

import collections
import contextlib
import time
from collections.abc import Iterator

# Of so many last steps.
WINDOW = 50


class Speed:
    """The speed over the last steps.

    Args:
      batch_size: images in a step.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._waited = 0.0
        # Of the end of each step: the time, and the seconds of waiting until then.
        self._steps: collections.deque[tuple[float, float]] = collections.deque(maxlen=WINDOW)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time in the block as waiting for input."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    def count_step(self) -> None:
        """Notes that a step has ended."""
        self._steps.append((time.perf_counter(), self._waited))

    @property
    def images_per_second(self) -> float:
        """Images trained on; 0 until two steps have ended."""
        seconds = self._steps[-1][0] - self._steps[0][0] if self._steps else 0.0
        return (len(self._steps) - 1) * self._batch_size / seconds if seconds else 0.0

    @property
    def waiting_share(self) -> float:
        """The share of the time that was spent waiting for input."""
        if len(self._steps) < 2:
            return 0.0
        (start, waited_before), (end, waited) = self._steps[0], self._steps[-1]
        return (waited - waited_before) / (end - start) if end > start else 0.0
