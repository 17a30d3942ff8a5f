"""Progress of downloads."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Called with the bytes of the target so far, and with their total number or None if not known.
Progress = Callable[[int, int | None], None]


@contextmanager
def progress_bar(description: str) -> Iterator[Progress]:
    """Shows a progress bar on standard error if that is a terminal; otherwise nothing."""
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
    with rich.Progress(*columns, console=Console(file=sys.stderr)) as display:
        task = display.add_task(description, total=None)
        yield lambda done, total: display.update(task, completed=done, total=total)
