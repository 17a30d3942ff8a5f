"""A progress bar on a terminal, for whatever counts its steps."""

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import Progress as Bar

from zoo.runtime.progress import Progress


@contextlib.contextmanager
def show_progress(description: str) -> Iterator[Progress]:
    """Yields a function of (steps done, steps in all), which shows them on standard error.

    Where that is no terminal, nothing is shown.
    """
    errors = Console(stderr=True)
    if not errors.is_terminal:
        yield lambda done, total: None
        return
    with Bar(console=errors, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
