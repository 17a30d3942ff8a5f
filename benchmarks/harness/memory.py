"""The most memory that a process holds while it does something, on Linux.

The kernel keeps the largest resident size that a process ever had, and resets it on request. Memory
that a process has freed may still be held by glibc: it is given back first.
"""

import contextlib
import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SELF = Path("/proc/self")


def resident_bytes() -> int | None:
    """Bytes that this process holds, after giving back freed memory; None if unknown."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library has no malloc_trim
        ctypes.CDLL(None).malloc_trim(0)
    return _read_status("VmRSS")


def peak_bytes(work: Callable[[], Any]) -> int | None:
    """The most bytes that this process holds while `work` runs; None if unknown."""
    if resident_bytes() is None:
        return None
    try:
        (_SELF / "clear_refs").write_text("5")  # resets the peak to what is resident now
    except OSError:
        return None
    work()
    return _read_status("VmHWM")


def _read_status(name: str) -> int | None:
    try:
        lines = (_SELF / "status").read_text().splitlines()
    except OSError:
        return None
    values = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return 1024 * int(next(values))
