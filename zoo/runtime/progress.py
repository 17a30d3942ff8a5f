"""How far a long computation is, as it tells its caller."""

from collections.abc import Callable

# Called with the number of steps, images or the like that are done, and of all.
Progress = Callable[[int, int], object]


def shift_progress(progress: Progress | None, before: int, total: int) -> Progress | None:
    """The progress of one of several parts, reported as the progress of the whole.

    Args:
      progress: of the whole; None is none.
      before: what the parts before have done.
      total: of all parts.
    """
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)
