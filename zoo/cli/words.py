"""What the command line prints."""


def printable(text: str) -> str:
    """One line, with escapes for what no terminal should be sent: names may hold any bytes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def size(count: int | None) -> str:
    """A number of bytes, for people."""
    if count is None:
        return "?"
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.2f} GB"


def columns(rows: list[tuple[str, ...]]) -> str:
    """Rows in columns, however wide: a pipe has no width."""
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
