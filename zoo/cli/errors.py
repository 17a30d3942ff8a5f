"""Turns errors that the user can fix, and warnings, into one line each."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO

import zoo
from zoo.cli.output import escape_unprintable
from zoo_pretrained.archive import ArchiveError
from zoo_pretrained.checkpoint import CheckpointError
from zoo_pretrained.convert import ConversionError
from zoo_pretrained.fetch import FetchError
from zoo_pretrained.read import ReadError
from zoo_pretrained.remote_store import StoreError

# Printed without a traceback; of any other error the traceback is shown.
USER_ERRORS = (
    zoo.UnknownModelError,
    zoo.NoWeightsError,
    ArchiveError,
    CheckpointError,
    ConversionError,
    FetchError,
    OSError,
    ReadError,
    StoreError,
)


@contextlib.contextmanager
def report_errors() -> Iterator[None]:
    """Prints the block's user errors and warnings on standard error; an error exits with code 1."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _print_warning
            yield
    except BrokenPipeError:
        # The reader closed the pipe. Nothing more may be flushed into it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except USER_ERRORS as error:
        for line in f"zoo: {error}".splitlines():
            print(escape_unprintable(line), file=sys.stderr)
        sys.exit(1)


def _print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(escape_unprintable(f"zoo: {message}"), file=sys.stderr)
