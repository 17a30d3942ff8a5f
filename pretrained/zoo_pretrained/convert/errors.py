"""The error of weights that do not fit: what is wrong in short, then in full."""

from collections.abc import Sequence
from typing import NamedTuple

from zoo_pretrained.printable import printable
from zoo_pretrained.spelling import choose

# How many entries a message lists.
MAX_LISTED = 20


class Mismatch(NamedTuple):
    """An entry that does not fit.

    Args:
      name: the source's name of an array, or the path of one of ours that nothing fills.
      reason: what is wrong with it.
      is_unfilled: whether it is one of ours.
    """

    name: str
    reason: str
    is_unfilled: bool = False

    def __str__(self) -> str:
        """A line."""
        return f"{printable(self.name)}: {self.reason}"


class ConversionError(ValueError):
    """Weights that do not fit a model.

    Args:
      summary: what is wrong, in a line.
      mismatches: every entry that does not fit.
      hints: what to try, a line each.

    The message has the summary, the hints, and the first `max_listed` entries; None lists all.
    """

    def __init__(
        self, summary: str, mismatches: Sequence[Mismatch] = (), hints: Sequence[str] = ()
    ) -> None:
        super().__init__(summary)
        self.summary = summary
        self.mismatches = tuple(mismatches)
        self.hints = tuple(hints)
        self.max_listed: int | None = MAX_LISTED

    def __str__(self) -> str:
        """The message."""
        return "\n  ".join(self.lines())

    def lines(self) -> list[str]:
        """The lines of the message."""
        listed = self.mismatches[: self.max_listed]
        lines = [self.summary, *self.hints, *map(str, listed)]
        if left := len(self.mismatches) - len(listed):
            where = choose(python="the error's mismatches has all", shell="--all lists them")
            lines.append(f"and {left} more; {where}")
        return lines
