"""Input that is made ready while the device computes."""

import collections
import concurrent.futures
from collections.abc import Generator, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")


def prefetch(items: Iterable[Item], most: int = 2) -> Generator[Item]:
    """The same items, made by a thread of their own while the caller works on those before.

    Where `items` makes batches and puts them on the device, both happen in that thread:

        for batch in prefetch(map(jax.device_put, batches)):
            state, loss = step(state, batch)

    What jax is told by `with` (a mesh, a default device) holds in the caller's thread alone: say
    where a batch is to go in `jax.device_put`.

    Args:
      items: is iterated once, by one thread.
      most: how many items are held ready at most, beside the one that the caller has.

    Yields:
      The items in their order. An error of `items` is raised where its item would have come. When
      the caller stops early, what is being made is finished, nothing more is begun, and the thread
      ends before `close` returns; a generator is closed, too.

    Raises:
      ValueError: `most` is less than 1.
    """
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most!r}")
    return _prefetch(iter(items), most)


def _prefetch(items: Iterator[Item], most: int) -> Generator[Item]:
    end: Any = object()  # a future cannot carry StopIteration
    thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        ready = collections.deque(thread.submit(next, items, end) for _ in range(most))
        while (item := ready.popleft().result()) is not end:
            ready.append(thread.submit(next, items, end))
            yield item
    finally:
        thread.shutdown(cancel_futures=True)
        if close := getattr(items, "close", None):
            close()
