"""How far a download is."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# The bytes so far, of the target's whole, and how many there will be, where that is known.
Progress = Callable[[int, int | None], None]


@contextmanager
def bar(description: str) -> Iterator[Progress]:
    """A bar on standard error if that is a terminal; otherwise nothing."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    import rich.progress as rich
    from rich.console import Console

    columns = (
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(),
        rich.DownloadColumn(),
        rich.TransferSpeedColumn(),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=Console(file=sys.stderr)) as shown:
        task = shown.add_task(description, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
