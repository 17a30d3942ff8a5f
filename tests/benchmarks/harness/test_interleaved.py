"""Candidates take turns: each is asked in its order, and one that cannot is left out."""

import sys
import textwrap
import time

import pytest

from benchmarks.harness import alternate


def candidate(body, versions="{}"):
    """A process whose `prepare(job)` has this body."""
    script = "import sys, time\nfrom benchmarks.harness.alternate import answer, serve\n"
    script += f"def prepare(job):\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"
    return [sys.executable, "-c", script + f"answer(prepare, {versions})"]


@pytest.fixture(autouse=True)
def _here(root, monkeypatch):
    monkeypatch.chdir(root)


def test_all_take_turns(tmp_path):
    log = tmp_path / "log"
    note = """
        def go():
            with open({log!r}, "a") as file:
                file.write({name!r} + job + " ")
            print("noise on the standard output")
            return 1.0
        return {{"seconds": 0.001, "peak": len(job)}}, go
    """
    candidates = {
        name: candidate(note.format(log=str(log), name=name), f"{{'name': {name!r}}}")
        for name in ("a", "b")
    }
    first, second = alternate.in_turn(candidates, 3, ["1", "22"], longest=10.0)
    # Each round begins with another.
    assert log.read_text() == "a1 b1 b1 a1 a1 b1 " + "a22 b22 b22 a22 a22 b22 "
    assert first.answers == second.answers == {"a": [1.0] * 3, "b": [1.0] * 3}
    assert first.costs["a"] == {"seconds": 0.001, "peak": 1}
    assert second.costs["b"] == {"seconds": 0.001, "peak": 2}
    assert first.versions == {"a": {"name": "a"}, "b": {"name": "b"}}


def test_a_long_job_gets_fewer_rounds():
    slow = candidate("return 4.0, lambda: 4.0")
    (turns,) = alternate.in_turn({"slow": slow}, 11, [""], longest=20.0)
    assert len(turns.answers["slow"]) == 5
    (turns,) = alternate.in_turn({"slow": slow}, 11, [""], longest=1.0)
    assert len(turns.answers["slow"]) == 3


def test_a_refusal_and_an_end_leave_the_others():
    candidates = {
        "ours": candidate("return 0.1, lambda: 0.1"),
        "refuses": candidate("""
            if job == "hard":
                raise NotImplementedError("not this one")
            return 0.1, lambda: 0.1
        """),
        "ends": candidate("""
            if job == "hard":
                sys.exit(7)
            return 0.1, lambda: 0.1
        """),
    }
    hard, easy = alternate.in_turn(candidates, 2, ["hard", "easy"], longest=10.0)
    assert set(hard.answers) == {"ours"}
    assert hard.refusals == {
        "refuses": "NotImplementedError: not this one",
        "ends": "stopped with exit code 7",
    }
    assert set(easy.answers) == {"ours", "refuses"}  # which can do what comes next
    with pytest.raises(SystemExit, match="'refuses' failed: NotImplementedError: not this one"):
        list(alternate.compare(candidates, 2, ["hard"]))


def test_a_round_is_long_enough_to_be_timed():
    work = [
        sys.executable,
        "-c",
        "import time\nfrom benchmarks.harness.alternate import serve\n"
        "serve(lambda job: lambda: time.sleep(float(job)), {})",
    ]
    (short,) = alternate.compare({"one": work}, 3, ["0.001"])
    (long,) = alternate.compare({"one": work}, 3, ["0.02"])
    # A sleep lasts at least what it is told to.
    assert 0.001 <= short["one"].lower <= short["one"].median <= short["one"].upper
    assert long["one"].median >= 0.02


def test_a_round_is_not_the_first_after_a_rest():
    """Nor of slow work: its memory may have gone back to the system meanwhile."""
    pauses = [0.05, 0.0, 0.0]
    assert alternate.rested(lambda: time.sleep(pauses.pop(0)), 2) < 0.05
    assert not pauses


def test_the_middle_of_several_rounds():
    timing = alternate.timing([5.0, 1.0, 2.0, 4.0, 3.0], {"jax": "1"})
    assert timing == (3.0, 2.0, 4.0, {"jax": "1"})
