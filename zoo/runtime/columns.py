"""Formats rows as aligned columns."""

from collections.abc import Callable, Sequence


def format_columns(rows: Sequence[Sequence[str]], *, align_right: bool = False) -> str:
    """Rows as aligned columns of any width: a pipe has no width.

    Args:
      rows: the cells; each row has as many.
      align_right: aligns all columns but the first at their right, as for numbers.
    """
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    align: Callable[[str, int], str] = str.rjust if align_right else str.ljust
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(align, row[1:], widths[1:])]).rstrip()
        for row in rows
    )
