"""The peak of a process's memory is that of the work, no earlier one."""

import sys

import numpy as np
import pytest

from benchmarks import memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
MIB = 2**20


def fill(mebibytes):
    return np.ones(mebibytes * MIB, np.uint8)


def test_peak_is_of_the_work_alone():
    before = memory.resident()
    fill(200)  # an earlier peak, which is to be forgotten
    peak = memory.peak(lambda: fill(60))
    if peak is None:
        pytest.skip("no peak can be reset here")
    assert 55 * MIB < peak - before < 90 * MIB


def test_resident_counts_what_is_held():
    before = memory.resident()
    held = fill(50)
    assert 45 * MIB < memory.resident() - before < 70 * MIB
    del held
    assert memory.resident() - before < 20 * MIB


def test_unknown_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_SELF", tmp_path)
    assert memory.resident() is None
    assert memory.peak(lambda: None) is None
