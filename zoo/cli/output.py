"""Formats what the command line prints."""

from zoo_pretrained.fetch import errors


def escape_unprintable(text: str) -> str:
    """The text as one line, with escapes for control characters: file names may hold any bytes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def format_bytes(count: int | None) -> str:
    """A number of bytes for people, such as "20.5 MB"; "?" where it is not known."""
    return "?" if count is None else errors.format_bytes(count)
