"""How much memory a process holds at most while it does something, on Linux.

The kernel keeps the largest resident size that a process ever had, and forgets it on request. What
a process has freed, glibc may still hold: it is given back first.
"""

import contextlib
import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SELF = Path("/proc/self")


def resident() -> int | None:
    """Bytes that this process holds now, freed memory given back; None where no one tells."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library has no malloc_trim
        ctypes.CDLL(None).malloc_trim(0)
    return _status("VmRSS")


def peak(work: Callable[[], Any]) -> int | None:
    """The most bytes that this process holds while `work` runs; None where no one tells."""
    if resident() is None:
        return None
    try:
        (_SELF / "clear_refs").write_text("5")  # the peak begins anew at what is resident
    except OSError:
        return None
    work()
    return _status("VmHWM")


def _status(name: str) -> int | None:
    try:
        lines = (_SELF / "status").read_text().splitlines()
    except OSError:
        return None
    found = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return 1024 * int(next(found))
