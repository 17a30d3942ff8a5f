"""Interleaved timing of candidates, each a process of its own."""

import sys
import textwrap
import time

import pytest

from benchmarks.harness import interleaved


def candidate(body, versions="{}"):
    """The command of a candidate whose `prepare(workload)` has this body."""
    script = "import sys, time\nfrom benchmarks.harness.interleaved import serve\n"
    script += f"def prepare(workload):\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"
    return [sys.executable, "-c", script + f"serve(prepare, {versions})"]


@pytest.fixture(autouse=True)
def _in_root(root, monkeypatch):
    monkeypatch.chdir(root)


def test_candidates_take_turns(tmp_path):
    log = tmp_path / "log"
    body = """
        def run_round():
            with open({log!r}, "a") as file:
                file.write({name!r} + workload + " ")
            print("noise on the standard output")
            return 1.0
        return {{"seconds": 0.001, "peak": len(workload)}}, run_round
    """
    candidates = {
        name: candidate(body.format(log=str(log), name=name), f"{{'name': {name!r}}}")
        for name in ("a", "b")
    }
    first, second = interleaved.interleave(candidates, 3, ["1", "22"], longest=10.0)
    # Each round begins with another candidate.
    assert log.read_text() == "a1 b1 b1 a1 a1 b1 " + "a22 b22 b22 a22 a22 b22 "
    assert first.rounds == second.rounds == {"a": [1.0] * 3, "b": [1.0] * 3}
    assert first.costs["a"] == {"seconds": 0.001, "peak": 1}
    assert second.costs["b"] == {"seconds": 0.001, "peak": 2}
    assert first.versions == {"a": {"name": "a"}, "b": {"name": "b"}}


def test_no_candidate_always_follows_the_same_one(tmp_path):
    log = tmp_path / "log"
    body = """
        def run_round():
            with open({log!r}, "a") as file:
                file.write({name!r})
            return 1.0
        return 0.001, run_round
    """
    candidates = {name: candidate(body.format(log=str(log), name=name)) for name in "abc"}
    list(interleaved.interleave(candidates, 6, [""], longest=10.0))
    rounds = textwrap.wrap(log.read_text(), 3)
    assert rounds == ["abc", "bca", "cab", "cba", "acb", "bac"]


def test_rounds_with_arguments():
    body = "return 0.001, lambda argument: [workload, argument]"
    candidates = {"a": candidate(body), "b": candidate(body)}
    (measurement,) = interleaved.interleave(
        candidates, 2, ["w"], longest=10.0, arguments=["1 2", "3"]
    )
    answers = [["w", "1 2"], ["w", "3"]] * 2
    assert measurement.rounds == {"a": answers, "b": answers}


def test_a_long_workload_gets_fewer_rounds():
    slow = candidate("return 4.0, lambda: 4.0")
    (measurement,) = interleaved.interleave({"slow": slow}, 11, [""], longest=20.0)
    assert len(measurement.rounds["slow"]) == 5
    (measurement,) = interleaved.interleave({"slow": slow}, 11, [""], longest=1.0)
    assert len(measurement.rounds["slow"]) == 3


def test_others_go_on_after_a_refusal_and_an_exit():
    candidates = {
        "ours": candidate("return 0.1, lambda: 0.1"),
        "refuses": candidate("""
            if workload == "hard":
                raise NotImplementedError("not this one")
            return 0.1, lambda: 0.1
        """),
        "exits": candidate("""
            if workload == "hard":
                sys.exit(7)
            return 0.1, lambda: 0.1
        """),
    }
    hard, easy = interleaved.interleave(candidates, 2, ["hard", "easy"], longest=10.0)
    assert set(hard.rounds) == {"ours"}
    assert hard.refusals == {
        "refuses": "NotImplementedError: not this one",
        "exits": "stopped with exit code 7",
    }
    assert set(easy.rounds) == {"ours", "refuses"}  # a refusal is of one workload
    with pytest.raises(SystemExit, match="'refuses' failed: NotImplementedError: not this one"):
        list(interleaved.interleave_timings(candidates, 2, ["hard"]))


def test_a_round_is_long_enough_to_be_timed():
    work = [
        sys.executable,
        "-c",
        "import time\nfrom benchmarks.harness.interleaved import serve_wall_times\n"
        "serve_wall_times(lambda text: lambda: time.sleep(float(text)), {})",
    ]
    (short,) = interleaved.interleave_timings({"one": work}, 3, ["0.001"])
    (long,) = interleaved.interleave_timings({"one": work}, 3, ["0.02"])
    # A sleep lasts at least what it is told to.
    assert 0.001 <= short["one"].lower <= short["one"].median <= short["one"].upper
    assert long["one"].median >= 0.02


def test_a_round_is_not_the_first_after_a_rest():
    """Nor of slow work: its memory may have gone back to the system meanwhile."""
    pauses = [0.05, 0.0, 0.0]
    assert interleaved.wall_seconds_after_pause(lambda: time.sleep(pauses.pop(0)), 2) < 0.05
    assert not pauses


def test_the_middle_of_several_rounds():
    timing = interleaved.summarize([5.0, 1.0, 2.0, 4.0, 3.0], {"jax": "1"})
    assert timing == (3.0, 2.0, 4.0, {"jax": "1"})
