"""Lets a training end in order when its process is told to stop."""

import signal
import threading
from types import FrameType
from typing import Any, Self

import jax


class InterruptedTrainingError(Exception):
    """A training was told to stop, and saved its state; the same call goes on.

    Args:
      message: what was saved, and where.
      signal_number: what it was told by, such as `signal.SIGTERM`.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


class Interrupts:
    """Notes SIGTERM and Ctrl-C in its `with` block, instead of dying of them.

    A second Ctrl-C interrupts at once. On several processes a SIGTERM to one of them stops all at
    the same step, by jax's service of preemptions. In other threads than the main one, where Python
    handles no signals, nothing is noted.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            numbers = [signal.SIGINT]
            if jax.process_count() == 1:  # else it is the service's
                numbers.append(signal.SIGTERM)
            self._previous = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._received == signal.SIGINT == number:
            raise KeyboardInterrupt
        self._received = number

    def requested(self, step: int) -> int | None:
        """The signal that asks to stop after this step, or None."""
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            if multihost_utils.reached_preemption_sync_point(step):
                return signal.SIGTERM
        return self._received
