"""Lets a training end in order when its process is told to stop."""

import signal
import threading
from types import FrameType
from typing import Any, Self

import jax

from zoo_kernels.core import jax_compat


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

    A second Ctrl-C interrupts at once. In other threads than the main one, where Python handles no
    signals, nothing is noted. Of several processes, jax's service of preemptions notes SIGTERM, and
    tells all of them.
    """

    def __init__(self) -> None:
        self._received = 0
        self._previous: dict[int, Any] = {}
        self._has_service = jax.process_count() > 1 and jax_compat.config_value(
            "jax_enable_preemption_service"
        )

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            numbers = [signal.SIGINT] if self._has_service else [signal.SIGINT, signal.SIGTERM]
            self._previous = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._received == signal.SIGINT == number:
            raise KeyboardInterrupt
        self._received = number

    def received(self, step: int) -> int:
        """The signal that asks this process to stop, or 0; call it in every step."""
        if self._has_service:
            from jax.experimental import multihost_utils

            if multihost_utils.reached_preemption_sync_point(step):
                self._received = signal.SIGTERM
        return self._received
