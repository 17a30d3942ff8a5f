"""The memory that a process holds, and the peak while it works."""

import json
import subprocess
import sys
import textwrap

import pytest

from benchmarks.harness import memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
MIB = 2**20


def run_script(script):
    """What a script prints in a fresh process, whose heap is not that of a long test run."""
    script = "import numpy as np\nfrom benchmarks.harness import memory\n" + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_peak_ignores_earlier_peaks():
    peak = run_script("""
        def fill(mebibytes):
            np.ones(mebibytes * 2**20, np.uint8)
        before = memory.resident_bytes()
        fill(200)  # an earlier peak
        peak = memory.peak_bytes(lambda: fill(60))
        print("null" if peak is None else peak - before)
    """)
    if peak is None:
        pytest.skip("no peak can be reset here")
    assert 55 * MIB < peak < 90 * MIB


def test_resident_bytes_leave_out_freed_memory():
    before, filled, freed = run_script("""
        before = memory.resident_bytes()
        held = np.ones(50 * 2**20, np.uint8)
        filled = memory.resident_bytes()
        del held
        print([before, filled, memory.resident_bytes()])
    """)
    assert 45 * MIB < filled - before < 70 * MIB
    assert freed - before < 20 * MIB


def test_none_where_memory_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_SELF", tmp_path)
    assert memory.resident_bytes() is None
    assert memory.peak_bytes(lambda: None) is None
