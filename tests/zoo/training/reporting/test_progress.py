"""What training shows: a live line on a terminal, plain lines elsewhere, and nothing that acts."""

import io
import os
import pty
import re
import sys
import threading
from types import SimpleNamespace

import pytest
from rich.console import Console

from zoo.training.reporting.formats import format_duration, format_metrics
from zoo.training.reporting.progress import Progress

METRICS = {"loss": 0.51234, "accuracy": 0.8734, "learning_rate": 0.0012}
HOSTILE = "[red]x\x1b[2J\n\u202e\udcff:smile:"
SHOWN = "[red]x\\x1b[2J\\n\\u202e\\udcff:smile:"


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr("zoo.training.reporting.progress.time", clock)
    return clock


def plain(text):
    """What a terminal shows of a text, without its control codes."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


class Terminal:
    """A terminal, and all that was written to it."""

    def __init__(self, width):
        self.reader, writer = pty.openpty()
        self.file = os.fdopen(writer, "w", encoding="utf-8")
        self.console = Console(file=self.file, width=width, force_terminal=None, _environ={})
        self.data = b""
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        try:
            while data := os.read(self.reader, 1 << 16):
                self.data += data
        except OSError:  # the other end was closed
            pass

    def text(self):
        """All that was written; closes it."""
        self.file.close()
        self.thread.join()
        os.close(self.reader)
        return self.data.decode()


@pytest.fixture
def terminal():
    return Terminal(160)


def test_plain_lines_come_each_half_minute_and_each_epoch(clock, capsys):
    with Progress(100) as progress:
        for step in range(1, 101):
            clock.now += 1
            progress.update(step, 1 + (step - 1) // 50, METRICS, 32)
            if step % 50 == 0:
                progress.epoch_end(step // 50, METRICS, {"loss": 0.6, "accuracy": 0.75})
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "epoch 1, step 30/100, 1 min left, 32 photos/s, loss 0.5123, accuracy 87.3 %, "
        "learning rate 0.0012",
        "epoch 1: loss 0.5123, accuracy 87.3 %, learning rate 0.0012; validation: loss 0.6, "
        "accuracy 75.0 %",
        "epoch 2, step 80/100, 20 s left, 32 photos/s, loss 0.5123, accuracy 87.3 %, "
        "learning rate 0.0012",
        "epoch 2: loss 0.5123, accuracy 87.3 %, learning rate 0.0012; validation: loss 0.6, "
        "accuracy 75.0 %",
    ]


def test_the_time_left_is_told_without_compiling_and_without_earlier_steps(clock, capsys):
    with Progress(1000) as progress:
        progress.resume(500)
        with progress.compiling("the training step"):
            clock.now += 14.24
        clock.now += 100  # the first step
        progress.update(501, 3, {}, 32)
        with progress.compiling("the evaluation"):
            clock.now += 500
        clock.now += 40  # 2 seconds a step
        progress.update(521, 3, {}, 32)
    assert capsys.readouterr().err.splitlines() == [
        "compiling the training step…",
        "compiled the training step in 14.2 s",
        "epoch 3, step 501/1000, 32 photos/s",
        "compiling the evaluation…",
        "compiled the evaluation in 8 min",
        "epoch 3, step 521/1000, 16 min left, 32 photos/s",
    ]


def test_waiting_for_input_is_shown_where_it_matters(clock, capsys):
    with Progress(9) as progress:
        for step, waiting in enumerate((0.1, 0.234)):
            clock.now += 31
            progress.update(step, 1, {}, 3.21, waiting)
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("3.2 photos/s")
    assert second.endswith("3.2 photos/s, waiting for input 23 % of the time")


def test_a_failed_compilation_is_not_called_compiled(capsys):
    with Progress(9) as progress, pytest.raises(MemoryError), progress.compiling("it"):
        raise MemoryError
    assert capsys.readouterr().err == "compiling it…\n"


@pytest.mark.parametrize("width", [160, 80])
def test_a_terminal_has_a_live_line_and_gets_it_back(width, clock):
    terminal = Terminal(width)
    with Progress(100, console=terminal.console) as progress:
        progress.update(1, 1, METRICS, 412, 0.5)
        clock.now += 10
        progress.update(11, 1, METRICS, 412, 0.5)
        progress.note("saved at step 11")  # draws the live line again
        progress.epoch_end(1, METRICS)
    text = terminal.text()
    lines = [line.strip() for line in re.split("[\r\n]+", plain(text))]
    words = "epoch 1, step 11/100, 1 min left, 412 photos/s"
    assert any(words in line for line in lines)
    assert any("learning rate 0.0012" in line for line in lines if "step" in line) == (width == 160)
    assert all(len(line) <= width for line in lines)
    assert ("━" in text) == (width == 160)  # the bar
    assert {"saved at step 11", "epoch 1: loss 0.5123, accuracy 87.3 %, learning rate 0.0012"} <= {
        *lines
    }
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is shown again
    assert text.endswith("\x1b[2K")  # the live line is erased


def test_a_terminal_shows_that_it_compiles(clock, terminal):
    with Progress(100, console=terminal.console) as progress:
        with progress.compiling("the training step"):
            clock.now += 14.2
        assert sys.stderr is not sys.__stderr__
        print("a warning", file=sys.stderr)
    text = plain(terminal.text())
    assert "compiling the training step… 0 s" in text
    assert "compiled the training step in 14.2 s" in text
    assert "a warning" in text


def test_nothing_in_a_message_acts(clock, terminal, capsys):
    with Progress(9, console=terminal.console) as progress:
        progress.note(f"skipped: {HOSTILE}")
    text = terminal.text()
    assert f"skipped: {SHOWN}" in text
    assert "\x1b[2J" not in text
    Progress(9).note(f"skipped: {HOSTILE}")
    assert capsys.readouterr().err == f"skipped: {SHOWN}\n"


def test_no_control_codes_without_a_terminal(clock, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Progress(9) as progress:
        clock.now += 31
        progress.update(1, 1, METRICS, 32)
        progress.note("saved")
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 2
    assert "\x1b" not in err


def test_the_quiet_one_shows_nothing(clock, capsys):
    with Progress(9, verbose=False) as progress, progress.compiling("it"):
        clock.now += 31
        progress.update(1, 1, METRICS, 32)
        progress.note("saved")
        progress.epoch_end(1, METRICS)
    assert capsys.readouterr() == ("", "")


def test_training_goes_on_where_nothing_can_be_written(clock):
    class Closed(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

    with Progress(9, console=Console(file=Closed())) as progress:
        progress.note("saved")


def test_durations_and_metrics_as_people_read_them():
    seconds = [0, 14.24, 59.4, 59.6, 200, 3599, 3660, 100_000]
    assert [format_duration(value) for value in seconds] == [
        "0 s", "14 s", "59 s", "1 min", "3 min", "1 h 00 min", "1 h 01 min", "27 h 47 min"
    ]  # fmt: skip
    assert format_duration(14.24, 1) == "14.2 s"
    metrics = {"top1": 1, "top5": None, "loss": float("nan"), "balanced_accuracy": 0.1234}
    assert format_metrics(metrics) == (
        "top1 100.0 %, top5 unknown, loss nan, balanced accuracy 12.3 %"
    )
