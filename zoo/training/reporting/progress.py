"""Shows how training gets on: a live line on a terminal, and plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from zoo.training.reporting.formats import format_duration, format_metrics
from zoo_pretrained.printable import MAX_MESSAGE, printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

# Seconds between the plain lines.
INTERVAL = 30.0
# A smaller share of the time in which training waits for its input is not worth a word.
MIN_WAITING = 0.1
# The bar is left out where it would leave the words too little room.
BAR_WIDTH, MIN_WIDTH_FOR_BAR = 20, 100


class _Status(NamedTuple):
    """What `update` was told, and when."""

    time: float
    step: int
    words: str


class Progress:
    """Shows how training gets on, on standard error, while its `with` block runs.

    On a terminal the last line is live, and everything that is written to standard error appears
    above it. Elsewhere a plain line is printed every 30 seconds.

    Args:
      total_steps: the number of steps at the end of the training; None if it is not known.
      console: rich's, another one than standard error's.
      verbose: False shows nothing.
    """

    def __init__(
        self,
        total_steps: int | None,
        console: "Console | None" = None,
        *,
        verbose: bool = True,
    ) -> None:
        self._total_steps = total_steps
        self._verbose = verbose
        self._console = (console or _open_console()) if verbose else None
        self._live: Any = None
        self._compiling: tuple[str, float] | None = None
        self._status = _Status(0.0, 0, "")
        # The first update, and the seconds of compiling since: what the time left is told by.
        self._first: _Status | None = None
        self._compile_seconds = 0.0
        self._printed = time.monotonic()

    def __enter__(self) -> Self:
        if self._console is not None and self._console.is_interactive:
            from rich.live import Live

            self._live = Live(
                get_renderable=self._render,
                console=self._console,
                transient=True,
                redirect_stdout=False,
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        live, self._live = self._live, None
        if live is not None:
            with contextlib.suppress(OSError):  # of a terminal that was closed
                live.stop()

    def resume(self, step: int) -> None:
        """Counts the steps that were done before, by a run that is resumed."""
        self._status = self._status._replace(step=step)

    @contextlib.contextmanager
    def compiling(self, what: str) -> Iterator[None]:
        """Says that something, such as "the training step", is compiled, and how long it took."""
        start = time.monotonic()
        self._compiling = what, start
        if self._live is None:
            self.note(f"compiling {what}…")
        else:
            self._live.refresh()  # now, as compiling may keep its thread from running
        try:
            yield
            self.note(f"compiled {what} in {format_duration(time.monotonic() - start, 1)}")
        finally:
            self._compiling = None
            self._compile_seconds += time.monotonic() - start

    def update(
        self,
        step: int,
        epoch: int,
        metrics: Mapping[str, float],
        images_per_second: float,
        waiting: float = 0.0,
    ) -> None:
        """Shows where the training is.

        Args:
          step: the number of steps so far.
          epoch: the current epoch, counted from 1.
          metrics: such as "loss", "accuracy" (a fraction) and "learning_rate".
          images_per_second: how many images are trained on.
          waiting: the share of the time in which the training waited for its input, 0 to 1.
        """
        total = self._total_steps
        words = [f"epoch {epoch}", f"step {step}" if total is None else f"step {step}/{total}"]
        now = time.monotonic()
        if self._first is None:
            self._first, self._compile_seconds = _Status(now, step, ""), 0.0
        elif step > self._first.step and total is not None:
            seconds = now - self._first.time - self._compile_seconds
            left = seconds / (step - self._first.step) * (total - step)
            words.append(f"{format_duration(left)} left")
        words.append(f"{images_per_second:.{0 if images_per_second >= 10 else 1}f} photos/s")
        if waiting > MIN_WAITING:
            words.append(f"waiting for input {waiting:.0%} of the time".replace("%", " %"))
        words += [format_metrics(metrics)] if metrics else []  # last, where a line may be cut off
        self._status = _Status(now, step, ", ".join(words))
        if self._live is None and now - self._printed >= INTERVAL:
            self._printed = now
            self.note(self._status.words)

    def note(self, message: object) -> None:
        """Prints a line that stays, such as "saved at step 300"; unprintable text is escaped."""
        if self._console is None:
            return
        line = printable(message, MAX_MESSAGE)
        with contextlib.suppress(OSError):  # training goes on without its audience
            if self._live is None:
                print(line, file=self._console.file, flush=True)
            else:
                from rich.text import Text

                self._console.print(Text(line), soft_wrap=True)

    def epoch_end(
        self, epoch: int, train: Mapping[str, float], validation: Mapping[str, float] | None = None
    ) -> None:
        """Prints what an epoch came to, counted from 1; metrics are as in `update`."""
        after = f"; validation: {format_metrics(validation)}" if validation else ""
        self.note(f"epoch {epoch}: {format_metrics(train)}{after}")
        self._printed = time.monotonic()

    def _render(self) -> "RenderableType":
        """The live line, with a bar where there is room."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        compiling, status = self._compiling, self._status
        words = status.words or "starting"
        if compiling is not None:
            what, start = compiling
            words = f"compiling {what}… {format_duration(time.monotonic() - start)}"
        text = Text(printable(words, MAX_MESSAGE), no_wrap=True, overflow="ellipsis")
        total = self._total_steps
        if self._console is None or self._console.width < MIN_WIDTH_FOR_BAR or total is None:
            return text
        line = Table.grid(padding=(0, 1))
        bar = ProgressBar(max(total, 1), status.step, width=BAR_WIDTH)
        line.add_row(bar, text)
        return line


def _open_console() -> "Console":
    """Standard error; never live where it is no terminal, even if FORCE_COLOR asks for colours."""
    from rich.console import Console

    is_terminal = bool(sys.stderr) and sys.stderr.isatty()
    return Console(
        stderr=True, force_jupyter=False, force_interactive=None if is_terminal else False
    )
