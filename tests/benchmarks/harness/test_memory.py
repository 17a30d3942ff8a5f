"""The peak of a process's memory is that of the work, no earlier one."""

import json
import subprocess
import sys
import textwrap

import pytest

from benchmarks.harness import memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
MIB = 2**20


def alone(script):
    """What the script prints in a new process: the heap of a long test run has its own history."""
    script = "import numpy as np\nfrom benchmarks.harness import memory\n" + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_peak_is_of_the_work_alone():
    peak = alone("""
        def fill(mebibytes):
            np.ones(mebibytes * 2**20, np.uint8)
        before = memory.resident()
        fill(200)  # an earlier peak, which is to be forgotten
        peak = memory.peak(lambda: fill(60))
        print("null" if peak is None else peak - before)
    """)
    if peak is None:
        pytest.skip("no peak can be reset here")
    assert 55 * MIB < peak < 90 * MIB


def test_resident_counts_what_is_held():
    before, filled, freed = alone("""
        before = memory.resident()
        held = np.ones(50 * 2**20, np.uint8)
        filled = memory.resident()
        del held
        print([before, filled, memory.resident()])
    """)
    assert 45 * MIB < filled - before < 70 * MIB
    assert freed - before < 20 * MIB


def test_unknown_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_SELF", tmp_path)
    assert memory.resident() is None
    assert memory.peak(lambda: None) is None
