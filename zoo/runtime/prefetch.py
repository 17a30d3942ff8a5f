"""Prepares input while the device computes."""

import collections
import concurrent.futures
from collections.abc import Generator, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")


def prefetch(items: Iterable[Item], buffer_size: int = 2) -> Generator[Item]:
    """Iterates over items in another thread, ahead of the caller, who gets them in order.

    Where `items` makes batches and puts them on the device, both happen in that thread:

        for batch in prefetch(map(jax.device_put, batches)):
            state, loss = step(state, batch)

    A `with` block of jax's (a mesh, a default device) holds in the caller's thread alone: name the
    device in `jax.device_put`.

    Args:
      items: iterated once, by one thread.
      buffer_size: the largest number of items held ready, beside the one that the caller has.

    Yields:
      The items in their order. An error of `items` is raised in place of its item. When the caller
      stops early, the item in progress is finished, no further one is begun, and the thread ends
      before `close` returns; if `items` is a generator, it is closed too.

    Raises:
      ValueError: `buffer_size` is less than 1.
    """
    if buffer_size < 1:
        raise ValueError(f"buffer_size must be at least 1, got {buffer_size!r}")
    return _prefetch(iter(items), buffer_size)


def _prefetch(items: Iterator[Item], buffer_size: int) -> Generator[Item]:
    end: Any = object()  # a future cannot carry StopIteration
    thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        ready = collections.deque(thread.submit(next, items, end) for _ in range(buffer_size))
        while (item := ready.popleft().result()) is not end:
            ready.append(thread.submit(next, items, end))
            yield item
    finally:
        thread.shutdown(cancel_futures=True)
        if close := getattr(items, "close", None):
            close()
