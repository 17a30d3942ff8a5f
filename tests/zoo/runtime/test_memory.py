"""`keep_memory`, tried in a separate process."""

import platform
import subprocess
import sys

import pytest

GLIBC = platform.libc_ver()[0] == "glibc"
LARGE = 2**27
# Allocates memory in two threads, frees it, and prints what the process then holds.
PROGRAM = f"""
import pathlib, sys, threading
import numpy as np
import zoo

def work():
    np.ones({LARGE}, np.uint8)

accepted = zoo.keep_memory() if sys.argv[1] == "keep" else None
work()
thread = threading.Thread(target=work)
thread.start()
thread.join()
status = pathlib.Path("/proc/self/status").read_text()
print(accepted, status.partition("VmRSS:")[2].split()[0])
"""


def run_program(mode):
    """→ what keep_memory returned, and the bytes that the process holds at its end."""
    command = [sys.executable, "-c", PROGRAM, mode]
    accepted, kib = subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.split()
    return accepted, 1024 * int(kib)


@pytest.mark.skipif(not GLIBC, reason="only glibc's malloc has the options")
def test_freed_memory_stays_in_the_process():
    _, released = run_program("release")
    accepted, kept = run_program("keep")
    assert accepted == "True"
    # There is one heap for all threads: the second reuses what the first has freed.
    assert 0.9 * LARGE < kept - released < 1.5 * LARGE


def test_returns_false_with_another_c_library(monkeypatch):
    import ctypes

    from zoo.runtime.memory import keep_memory

    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert keep_memory() is False
