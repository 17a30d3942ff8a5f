"""The time in which a device was busy, from a profiler's spans."""

import sys

import jax
import jax.numpy as jnp
import pytest

from benchmarks.harness import alternate, device_time


def test_spans_that_overlap_count_once():
    spans = [(10, 30), (0, 5), (20, 40), (25, 26), (40, 41)]
    assert device_time.busy(spans) == pytest.approx((5 + 30 + 1) / 1e9)
    assert device_time.busy([]) == 0


def test_operands_take_turns():
    seen, waited = [], []
    calls = device_time.Calls(lambda *a: seen.append(a) or a, [(1, 2), (3, 4)], waited.append)
    calls(turns=2)
    assert len(calls) == 2
    assert seen == [(1, 2), (3, 4)] * 2
    assert waited == [(3, 4)]


def test_a_trace_of_jax_holds_the_work():
    """On a CPU, whose threads stand for a GPU's streams."""
    work = jax.jit(lambda x: jnp.sin(x @ x).sum())
    x = jnp.full((300, 300), 0.01)
    jax.block_until_ready(work(x))
    seconds = alternate.wall(lambda: jax.block_until_ready(work(x)), 10)
    tracer = device_time.jax_tracer("cpu")
    spans = tracer(lambda: [jax.block_until_ready(work(x)) for _ in range(10)])
    assert len(spans) >= 10
    assert all(start <= end for start, end in spans)
    # A trace slows the work, if not beyond measure.
    assert 0 < device_time.busy(spans) < 100 * 10 * seconds


def test_a_candidate_tells_both_clocks(root, monkeypatch):
    monkeypatch.chdir(root)
    script = """
import time
from benchmarks.harness.device_time import Calls, serve
def prepare(job):
    return Calls(lambda s: time.sleep(s), [(0.002,), (0.002,)], lambda result: None)
def tracer(run):
    run()
    return [] if BROKEN else [(1000 * i, 1000 * i + 500) for i in range(100)]
serve(prepare, {}, tracer)
"""
    for broken in (False, True):
        command = [sys.executable, "-c", script.replace("BROKEN", str(broken))]
        (turns,) = alternate.in_turn({"one": command}, 3, ["job"], longest=10.0)
        if broken:
            assert "0 spans in a trace of" in turns.refusals["one"]
            continue
        busy, wall = turns.answers["one"][0]
        assert wall >= 0.002
        # 100 spans of half a microsecond, among the calls of 5 ms at least.
        assert busy == pytest.approx(100 * 500e-9 / 4)
