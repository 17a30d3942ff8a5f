"""The processes of one training, on one host or on several, and what they tell each other.

What is here, all of them must call at the same point. Of one process alone it does nothing.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np

from zoo_pretrained.printable import OneLineError

Item = TypeVar("Item")

# Texts are padded to a multiple of so many bytes, as each length is compiled for.
BLOCK = 1 << 10


class ProcessError(OneLineError, Exception):
    """Another process of the training failed; the message has its error."""


def is_first() -> bool:
    """Whether this is the process that writes what is written once."""
    return jax.process_index() == 0


def share(value: Any) -> list[Any]:
    """What each process gives, JSON values, in the order of the processes."""
    if jax.process_count() == 1:
        return [value]
    from jax.experimental.multihost_utils import process_allgather

    text = json.dumps(value).encode()
    lengths = process_allgather(np.array([len(text)], np.int32)).ravel()
    padded = np.zeros(-(-lengths.max() // BLOCK) * BLOCK, np.uint8)
    padded[: len(text)] = np.frombuffer(text, np.uint8)
    texts = process_allgather(padded)
    return [json.loads(text[:n].tobytes()) for text, n in zip(texts, lengths, strict=True)]


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Where its `with` block fails in one process, all raise; else the others would wait for it.

    Raises:
      ProcessError: it failed in another process, and not in this one.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    failures = share(None if failure is None else f"{type(failure).__name__}: {failure}")
    if failure is not None:
        raise failure
    for number, message in enumerate(failures):
        if message is not None:
            raise ProcessError(f"process {number} failed: {message}")


def iterate_together(items: Iterable[Item]) -> Iterator[Item]:
    """Each process's own items, of which all have as many; what fails in one is raised in all."""
    iterator, end = iter(items), object()
    while True:
        with together():
            item: Any = next(iterator, end)
        if item is end:
            return
        yield item
