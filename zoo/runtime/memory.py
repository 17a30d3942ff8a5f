"""Keeping the memory that a process has, for programs that compute again and again."""

import ctypes

# Of glibc's malloc.h. Memory comes from one growing heap, in place of a mapping for each large
# array, and what is freed stays in it.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_NEVER = -1


def keep_memory() -> bool:
    """Lets this process keep the memory that it frees, for what it computes next.

    On a CPU, each call of a compiled program takes its temporary memory from the system and gives
    it back, and on Linux every page of it is cleared and mapped anew: about a third of the time of
    MobileNetV2's training step (benchmarks/README.md). This tells malloc, for the whole process,
    not to give memory back. The process then stays as large as it ever was.

    To be called before jax computes anything: threads that have begun to take memory go on as they
    did. `zoo bench --keep-memory` calls it; so may a script that trains.

    Returns:
      Whether malloc took it, which it does on Linux with glibc. Elsewhere nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return False
    wanted = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: _NEVER}
    return all(mallopt(option, value) for option, value in wanted.items())
