"""Dynamic batching: photos of several requests are computed together, within a deadline."""

import asyncio
import collections
import concurrent.futures
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

# [N, H, W, C] → a row for each photo.
Compute = Callable[[np.ndarray], Any]


class QueueFullError(Exception):
    """As many photos as the limit allows are in hand."""


class ClosedError(Exception):
    """The batcher takes no more photos, as it closes."""


class _Photo(NamedTuple):
    x: np.ndarray
    row: "asyncio.Future[np.ndarray]"
    deadline: float


class Batcher:
    """Computes photos in batches, in one thread, while an event loop goes on.

    A photo waits until there are `max_batch`, until the first of them has waited for `max_wait`
    seconds, or until no other photo is on its way. While a batch is computed, the next one fills.

    Used in one event loop: `start`, then for each request

        with batcher.admit() as admission:
            …  # receive and decode the photo
            row = await admission.compute(x)

    and `close` at the end.

    Args:
      compute: [N, H, W, C] → a row for each photo; called in a thread.
      max_batch: the largest number of photos of a call.
      max_wait: seconds.
      max_in_hand: the largest number of photos that are admitted at a time.
    """

    def __init__(
        self, compute: Compute, *, max_batch: int, max_wait: float, max_in_hand: int
    ) -> None:
        self._compute, self._max_batch, self._max_wait = compute, max_batch, max_wait
        self._max_in_hand = max_in_hand
        self._in_hand = 0
        self._coming = 0  # those in hand that are not yet in the queue
        self._waiting: collections.deque[_Photo] = collections.deque()
        self._changed = asyncio.Event()
        self._closing = False
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="batcher")
        self._runner: asyncio.Task[None] | None = None

    @property
    def in_hand(self) -> int:
        """How many photos are admitted now."""
        return self._in_hand

    def start(self) -> None:
        """Begins to compute batches, in the running event loop."""
        self._runner = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Refuses what comes from now on, and returns when all that was admitted is computed."""
        self._closing = True
        self._changed.set()
        if self._runner is not None:
            await self._runner
        self._thread.shutdown()

    def admit(self, count: int = 1) -> "Admission":
        """Takes `count` photos in hand, which are then on their way until they are computed.

        Raises:
          QueueFullError: they would be more than `max_in_hand`.
          ClosedError: `close` was called.
        """
        admission = Admission(self)
        admission.extend(count)
        return admission

    def _count(self, in_hand: int = 0, coming: int = 0) -> None:
        self._in_hand += in_hand
        self._coming += coming
        self._changed.set()

    async def _run(self) -> None:
        while photos := await self._collect():
            await self._answer(photos)

    async def _collect(self) -> list[_Photo]:
        """Waits for the photos of a batch; returns none when the batcher is closed."""
        while not self._is_ready():
            if self._closing and not self._waiting and not self._coming:
                return []
            self._changed.clear()
            try:
                async with asyncio.timeout_at(self._waiting[0].deadline if self._waiting else None):
                    await self._changed.wait()
            except TimeoutError:
                break
        count = min(len(self._waiting), self._max_batch)
        return [self._waiting.popleft() for _ in range(count)]

    def _is_ready(self) -> bool:
        """Whether there is a batch, and no reason to wait for more photos."""
        if not self._waiting:
            return False
        late = self._waiting[0].deadline <= asyncio.get_running_loop().time()
        return late or not self._coming or len(self._waiting) >= self._max_batch

    async def _answer(self, photos: Sequence[_Photo]) -> None:
        """Computes a batch; where that fails, each of its photos, so that one alone is to blame."""
        loop = asyncio.get_running_loop()
        try:
            rows = await loop.run_in_executor(self._thread, self._compute_rows, photos)
        except Exception as error:
            if len(photos) > 1:
                for photo in photos:
                    await self._answer([photo])
            elif not photos[0].row.done():
                photos[0].row.set_exception(error)
            return
        for photo, row in zip(photos, rows, strict=True):
            if not photo.row.done():  # as it is when its request was cancelled
                photo.row.set_result(row)

    def _compute_rows(self, photos: Sequence[_Photo]) -> np.ndarray:
        rows = np.asarray(self._compute(np.stack([photo.x for photo in photos])))
        if len(rows) != len(photos):
            raise ValueError(f"expected {len(photos)} rows for as many photos, got {len(rows)}")
        return rows


class Admission:
    """The photos of one request that a batcher has in hand, until the `with` block ends."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self._in_hand = self._coming = 0

    def extend(self, count: int) -> None:
        """Takes `count` more photos in hand; raises what `Batcher.admit` raises."""
        batcher = self._batcher
        if batcher._closing:
            raise ClosedError("no photos are taken any more")
        if batcher._in_hand + count > batcher._max_in_hand:
            raise QueueFullError(f"{batcher._in_hand} photos are in hand")
        self._count(in_hand=count, coming=count)

    async def compute(self, x: np.ndarray) -> np.ndarray:
        """The row of one photo [H, W, C].

        Raises:
          Exception: what `compute` raised for this photo.
        """
        loop = asyncio.get_running_loop()
        photo = _Photo(x, loop.create_future(), loop.time() + self._batcher._max_wait)
        self._batcher._waiting.append(photo)
        self._count(coming=-1)
        return await photo.row

    def __enter__(self) -> Self:
        """The admission."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Lets go of the photos, computed or not."""
        self._count(in_hand=-self._in_hand, coming=-self._coming)

    def _count(self, in_hand: int = 0, coming: int = 0) -> None:
        self._in_hand += in_hand
        self._coming += coming
        self._batcher._count(in_hand, coming)
