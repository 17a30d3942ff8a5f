"""The time for which a device was busy, from a profiler's spans."""

import sys

import jax
import jax.numpy as jnp
import pytest

from benchmarks.harness import device_time, interleaved


def test_overlapping_spans_count_once():
    spans = [(10, 30), (0, 5), (20, 40), (25, 26), (40, 41)]
    assert device_time.busy_seconds(spans) == pytest.approx((5 + 30 + 1) / 1e9)
    assert device_time.busy_seconds([]) == 0


def test_calls_rotate_over_operands():
    seen, waited = [], []
    sets = [(1, 2), (3, 4)]
    calls = device_time.RotatingCalls(lambda *a: seen.append(a) or a, sets, waited.append)
    calls(rotations=2)
    assert len(calls) == 2
    assert seen == [(1, 2), (3, 4)] * 2
    assert waited == [(3, 4)]


def test_spans_of_a_jax_trace():
    """On a CPU, whose threads stand for a GPU's streams."""
    work = jax.jit(lambda x: jnp.sin(x @ x).sum())
    x = jnp.full((300, 300), 0.01)
    jax.block_until_ready(work(x))
    seconds = interleaved.wall_seconds(lambda: jax.block_until_ready(work(x)), 10)
    tracer = device_time.jax_tracer("cpu")
    spans = tracer(lambda: [jax.block_until_ready(work(x)) for _ in range(10)])
    assert len(spans) >= 10
    assert all(start <= end for start, end in spans)
    # A trace slows the work down, within bounds.
    assert 0 < device_time.busy_seconds(spans) < 100 * 10 * seconds


def test_a_candidate_gives_both_clocks(root, monkeypatch):
    monkeypatch.chdir(root)
    script = """
import time
from benchmarks.harness.device_time import RotatingCalls, serve_device_times
def prepare(workload):
    return RotatingCalls(lambda s: time.sleep(s), [(0.002,), (0.002,)], lambda result: None)
def tracer(run):
    run()
    return [] if BROKEN else [(1000 * i, 1000 * i + 500) for i in range(100)]
serve_device_times(prepare, {}, tracer)
"""
    for broken in (False, True):
        command = [sys.executable, "-c", script.replace("BROKEN", str(broken))]
        (measurement,) = interleaved.interleave({"one": command}, 3, ["workload"], longest=10.0)
        if broken:
            assert "0 spans in a trace of" in measurement.refusals["one"]
            continue
        busy, wall = measurement.rounds["one"][0]
        assert wall >= 0.002
        # 100 spans of half a microsecond, among the calls of 5 ms at least.
        assert busy == pytest.approx(100 * 500e-9 / 4)
