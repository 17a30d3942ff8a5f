"""Keeps libraries from logging what their users should not see."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator


@contextlib.contextmanager
def drop_records(
    loggers: Iterable[str], is_unwanted: Callable[[logging.LogRecord], bool]
) -> Iterator[None]:
    """Drops the records of loggers, by their names, for which the function is true."""
    found = [logging.getLogger(name) for name in loggers]

    def is_wanted(record: logging.LogRecord) -> bool:
        return not is_unwanted(record)

    for logger in found:
        logger.addFilter(is_wanted)
    try:
        yield
    finally:
        for logger in found:
            logger.removeFilter(is_wanted)
