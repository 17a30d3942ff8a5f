"""Text of files and servers, made safe to print."""


def printable(text: object, limit: int = 200) -> str:
    r"""The text as one line of at most `limit` characters, in which nothing acts on a terminal.

    Line breaks, control characters, marks that change the direction of writing, and bytes of file
    names that are no text become escapes, such as \x1b and \u202e. Everything else stays.

    Args:
      text: a string, or what `str` makes one of.
      limit: the largest length of the result, which ends in "…" where something was left out.
    """
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text)[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"
