"""Formats rows as aligned columns."""

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest

GAP = "  "
# Where a cell that is folded breaks, if it can: behind one of these.
BREAKS = " /-"
MIN_WIDTH = 8


def format_columns(
    rows: Sequence[Sequence[str]], *, align_right: bool = False, width: int | None = None
) -> str:
    """Rows as aligned columns; nothing is left out.

    Args:
      rows: the cells; each row has as many.
      align_right: aligns all columns but the first at their right, as for numbers.
      width: of the terminal: a wider table has the cells of its widest columns on several lines.
        None for any width, as a pipe has.
    """
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if width is not None:
        _narrow(widths, width)
    align: Callable[[str, int], str] = str.rjust if align_right else str.ljust
    return "\n".join(
        GAP.join([line[0].ljust(widths[0]), *map(align, line[1:], widths[1:])]).rstrip()
        for row in rows
        for line in zip_longest(*map(_fold, row, widths), fillvalue="")
    )


def _narrow(widths: list[int], width: int) -> None:
    """Takes from the widest columns until the table has a width, or all are narrow."""
    while sum(widths) + len(GAP) * (len(widths) - 1) > width and max(widths) > MIN_WIDTH:
        widths[widths.index(max(widths))] -= 1


def _fold(cell: str, width: int) -> Iterator[str]:
    """Yields a cell's lines."""
    while len(cell) > width:
        end = max(cell.rfind(mark, 0, width) for mark in BREAKS) + 1 or width
        if cell[width] == " ":
            end = width
        yield cell[:end].rstrip()
        cell = cell[end:].lstrip()
    yield cell
