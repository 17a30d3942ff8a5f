"""A process that keeps its memory, in a process of its own."""

import platform
import subprocess
import sys

import pytest

GLIBC = platform.libc_ver()[0] == "glibc"
LARGE = 2**27
# Takes much memory, gives it back, and tells what it then holds. jax's threads take memory too.
PROGRAM = f"""
import pathlib, sys, threading
import numpy as np
import zoo

def work():
    np.ones({LARGE}, np.uint8)

took = zoo.keep_memory() if sys.argv[1] == "keep" else None
work()
thread = threading.Thread(target=work)
thread.start()
thread.join()
status = pathlib.Path("/proc/self/status").read_text()
print(took, status.partition("VmRSS:")[2].split()[0])
"""


def holds(what):
    """→ what keep_memory said, and the bytes that the process holds at last."""
    command = [sys.executable, "-c", PROGRAM, what]
    said, kib = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return said, 1024 * int(kib)


@pytest.mark.skipif(not GLIBC, reason="only glibc's malloc can be told")
def test_what_is_freed_stays():
    _, usual = holds("give back")
    said, kept = holds("keep")
    assert said == "True"
    # One heap for all threads: the second finds what the first has freed.
    assert 0.9 * LARGE < kept - usual < 1.5 * LARGE


def test_another_c_library_is_left_as_it_is(monkeypatch):
    import ctypes

    from zoo.runtime.memory import keep_memory

    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert keep_memory() is False
