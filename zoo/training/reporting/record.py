"""The record of a training run: its metrics as JSON lines, and for TensorBoard."""

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from zoo.runtime.extras import require


class Record:
    """A file to which a run's metrics are appended, each time a line of JSON.

    Each line holds "step" and "epoch", "time" (Unix time), "elapsed" (how many seconds the run has
    taken, without the time in which it was stopped), and what `write` is given. Write a step's
    metrics before its checkpoint is saved.

    Args:
      path: the file.
      resume_step: the step of the checkpoint from which the run goes on: what was written of later
        steps, by a run that was killed, is removed. 0 begins a new record.
      tensorboard: a folder for TensorBoard's files, which the extra "tensorboard" writes; None
        writes none.

    Raises:
      OSError: the file cannot be written; also when writing.
      MissingExtraError: tensorboardX is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        resume_step: int = 0,
        tensorboard: str | os.PathLike[str] | None = None,
    ) -> None:
        self._path = Path(path)
        self._writer = None
        if tensorboard is not None:
            library = require("tensorboardX", "tensorboard")
            self._writer = library.SummaryWriter(os.fspath(tensorboard), purge_step=resume_step + 1)
        self._start = time.monotonic() - _truncate(self._path, resume_step)
        # Unbuffered: what is written survives the process, and no error is left for closing.
        self._file = self._path.open("ab", buffering=0)

    def write(self, step: int, epoch: float, metrics: Mapping[str, Any]) -> None:
        """Appends a line.

        Args:
          step: the number of training steps so far.
          epoch: which epoch that is, or how many are done.
          metrics: names and values that JSON can hold, also NumPy's and jax's. NaN and infinity
            become null. TensorBoard gets those that are finite numbers.
        """
        elapsed = round(time.monotonic() - self._start, 3)
        line = {"step": step, "epoch": epoch, "time": round(time.time(), 3), "elapsed": elapsed}
        line = to_json({**line, **metrics})
        rest = json.dumps(line, allow_nan=False).encode() + b"\n"
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:  # without the file's name
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        if self._writer is not None:
            for name in metrics:
                if isinstance(line[name], int | float):
                    self._writer.add_scalar(name, line[name], step)
            self._writer.flush()

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_record(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of a record; a line that a killed process left unfinished ends it."""
    return [line for line, _ in _read_lines(Path(path).read_bytes())]


def to_json(value: Any) -> Any:
    """The value as JSON can hold it: arrays become lists, NaN and infinity None."""
    if isinstance(value, Mapping):
        return {str(name): to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if hasattr(value, "__array__"):
        return to_json(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _truncate(path: Path, resume_step: int) -> float:
    """Removes the lines after a step; returns the seconds that the run had taken until then."""
    if not path.exists():
        return 0.0
    size, elapsed = 0, 0.0
    for line, end in _read_lines(path.read_bytes()) if resume_step > 0 else ():
        if line["step"] > resume_step:
            break
        size, elapsed = end, line["elapsed"]
    if path.stat().st_size > size:
        os.truncate(path, size)
    return elapsed


def _read_lines(data: bytes) -> Iterator[tuple[dict[str, Any], int]]:
    """Yields each line, and where it ends; stops at the first that is none of a record."""
    end = 0
    for line in data.splitlines(keepends=True):
        end += len(line)
        try:
            fields = json.loads(line)
        except ValueError:
            return
        if not (line.endswith(b"\n") and isinstance(fields, dict) and "elapsed" in fields):
            return
        yield fields, end
