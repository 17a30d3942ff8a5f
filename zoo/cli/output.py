"""What the command line prints: escaped, since file names and metadata may hold anything."""

import contextlib
import shutil
import sys
from collections.abc import Sequence

from zoo.runtime.columns import format_columns
from zoo_pretrained.fetch import errors
from zoo_pretrained.printable import printable

# Larger numbers of pixels, images and classes are mistakes, which fail in many ways.
MAX_SIZE, MAX_COUNT = 1 << 15, 1 << 24


def escape_unprintable(text: object) -> str:
    """The text as one line of any length, with escapes for what acts on a terminal."""
    return printable(text, sys.maxsize)


def print_line(text: object) -> None:
    """Prints one line on standard output."""
    print(escape_unprintable(text), flush=True)


def print_error(first: object, *more: str) -> None:
    """Prints the lines of a message on standard error, as far as it can be written to."""
    with contextlib.suppress(OSError):
        for line in (f"zoo: {first}", *(f"  {line}" for line in more)):
            print(escape_unprintable(line), file=sys.stderr, flush=True)


def print_table(rows: Sequence[Sequence[str]], *, align_right: bool = False) -> None:
    """Prints rows as columns, which fit the terminal; into a file or a pipe each row is a line."""
    cells = [[escape_unprintable(cell) for cell in row] for row in rows]
    print(format_columns(cells, align_right=align_right, width=terminal_width()), flush=True)


def terminal_width() -> int | None:
    """The columns of the terminal that standard output is; None if it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def format_bytes(count: int | None) -> str:
    """A number of bytes for people, such as "20.5 MB"; "?" where it is not known."""
    return "?" if count is None else errors.format_bytes(count)
