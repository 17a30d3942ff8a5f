"""Turns errors that the user can fix, and warnings, into one line each."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

import jax

import zoo
from zoo.checkpoints.export import ExportError
from zoo.cli.output import print_error
from zoo.runtime.extras import MissingExtraError
from zoo_pretrained.archive import ArchiveError
from zoo_pretrained.checkpoint import CheckpointError
from zoo_pretrained.convert import ConversionError
from zoo_pretrained.fetch import FetchError
from zoo_pretrained.printable import OneLineError
from zoo_pretrained.read import ReadError
from zoo_pretrained.remote_store import StoreError

# Printed without a traceback; of any other error the traceback is shown.
USER_ERRORS = (
    zoo.ImageError,
    zoo.UnknownModelError,
    zoo.NoWeightsError,
    ArchiveError,
    CheckpointError,
    ConversionError,
    ExportError,
    FetchError,
    FloatingPointError,  # of weights that are not finite
    MemoryError,
    MissingExtraError,
    OneLineError,  # of data sets and trainings
    OSError,
    ReadError,
    StoreError,
    jax.errors.JaxRuntimeError,  # such as too little memory for the batch
)


@contextlib.contextmanager
def report_errors() -> Iterator[None]:
    """Prints the block's errors and warnings on standard error.

    An error that the user can fix exits with code 1, a wrong command line with code 2.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _print_warning
            yield
            sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        sys.exit(1)
    except USER_ERRORS as error:
        print_error(*describe_error(error))
        _discard_output_if_full()
        sys.exit(1)
    except Exception as error:
        message = _describe_usage_error(error)
        if message is None:
            raise
        print_error(message)
        sys.exit(2)


def describe_error(error: BaseException) -> Sequence[str]:
    """The lines of an error's message."""
    if isinstance(error, ConversionError):
        return error.lines()
    if isinstance(error, OSError) and error.strerror:
        return (f"{error.filename or 'the output'}: {error.strerror}",)
    if isinstance(error, MemoryError):
        return (f"there is too little memory: {error}",)
    if isinstance(error, jax.errors.JaxRuntimeError):
        return (str(error).partition("\n")[0],)
    return (str(error),)


def _describe_usage_error(error: Any) -> str | None:
    """The message of an error that typer raises for a wrong command line; None for any other.

    Typer carries a copy of click, whose classes have no public name.
    """
    if getattr(error, "exit_code", None) != 2 or not hasattr(error, "format_message"):
        return None
    command = getattr(getattr(error, "ctx", None), "command_path", "zoo")
    message = " ".join(error.format_message().split())
    return f"{message.rstrip('.')}; see {command} --help"


def _discard_output_if_full() -> None:
    """Drops what cannot be written to standard output, so that nothing is tried again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print_error(message)
