"""Keeps the memory that a process has, for programs that compute the same thing repeatedly."""

import ctypes

# Options of mallopt, from glibc's malloc.h. With these values memory comes from one growing heap,
# not from a mapping for each large array, and freed memory stays in the heap.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_NEVER = -1


def keep_memory() -> bool:
    """Makes malloc keep the memory that this process frees, for its next computation.

    On a CPU, each call of a compiled program takes its temporary memory from the system and gives
    it back, and on Linux every page of it is cleared and mapped anew: about a third of the time of
    MobileNetV2's training step (benchmarks/README.md). This tells malloc, for the whole process,
    not to give memory back. The process then stays at its largest size.

    Call it before jax computes anything: threads that have allocated memory already are not
    affected. `zoo bench --keep-memory` calls it; a training script may.

    Returns:
      Whether malloc accepted the options: it does on Linux with glibc; elsewhere nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return False
    options = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: _NEVER}
    return all(mallopt(option, value) for option, value in options.items())
