"""Timing several programs in turn, so that a machine's drift falls on all of them alike.

Each candidate is a process of its own (two frameworks' thread pools in one would fight), possibly
under another Python. It prints "ready" and its versions as JSON, and then answers each line with
a line of JSON: "prepare JOB" makes a job ready, warms it up and tells the seconds of a round, or
those under "seconds" beside what else it cost; "go" does one round and tells its figures. What
it cannot do it answers with the reason.
"""

import contextlib
import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# Seconds of rest before a measurement: a thread pool spins for a while after its last work, and
# would take a core from the next candidate's.
PAUSE = 0.1
# Seconds that one measurement lasts at least: a shorter round is repeated, and its mean taken.
SHORTEST = 0.005
# A round of more seconds than this needs no warm-up beyond its first.
SLOW = 0.5


class Timing(NamedTuple):
    """Seconds: the median, and the lower and upper quartile; and what the candidate ran on."""

    median: float
    lower: float
    upper: float
    versions: dict[str, str]


class Turns(NamedTuple):
    """What the candidates answered for one job, by their names.

    Args:
      answers: the figures of each round.
      refusals: why a candidate has none.
      versions: what each runs on.
      costs: what each told when the job was made ready, at least its "seconds".
    """

    answers: dict[str, list[Any]]
    refusals: dict[str, str]
    versions: dict[str, dict[str, str]]
    costs: dict[str, dict[str, Any]]


def answer(
    prepare: Callable[[str], tuple[float | Mapping[str, Any], Callable[[], Any]]],
    versions: Mapping[str, str],
) -> None:
    """The candidate's side.

    Args:
      prepare: makes a job ready; gives the seconds of a round (or a mapping that has them, see
        `Turns.costs`), and what does one and returns its figures.
      versions: what runs here.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer

    def say(what: Any) -> None:
        print(json.dumps(what), file=answers, flush=True)

    say({"ready": dict(versions)})
    go: Callable[[], Any] | None = None
    for line in sys.stdin:
        try:
            if line.startswith("prepare "):
                go = None  # frees what the last job held
                cost, go = prepare(line.removeprefix("prepare ").rstrip("\n"))
                say(cost)
            else:
                assert go is not None, "nothing is prepared"
                say(go())
        except Exception as error:
            if not isinstance(error, NotImplementedError):  # which says all in its message
                traceback.print_exc()
            say({"refusal": f"{type(error).__name__}: {error}".partition("\n")[0]})


def serve(
    prepare: Callable[[str], Callable[[], Any]], versions: Mapping[str, str], warm_up: int = 3
) -> None:
    """The candidate's side where a round is timed by the wall clock.

    Args:
      prepare: makes a job's work; each call of the work does one round, and returns when all of
        it is done.
      versions: what runs here.
      warm_up: how many rounds are not timed.
    """

    def ready(job: str) -> tuple[float, Callable[[], float]]:
        work = prepare(job)
        seconds = wall(work, 1)
        for _ in range(warm_up - 1 if seconds < SLOW else 0):
            seconds = min(seconds, wall(work, 1))
        repeats = max(1, round(SHORTEST / seconds))

        return seconds, functools.partial(rested, work, repeats)

    answer(ready, versions)


def in_turn(
    candidates: Mapping[str, Sequence[str]], rounds: int, jobs: Sequence[str], longest: float
) -> Iterator[Turns]:
    """Starts each candidate's command, and lets all do each job in turn, `rounds` times.

    Each round begins with another candidate, so that what one leaves behind (a warm cache, memory
    that the system has yet to clear) does not always meet the same next one. A job of which more
    than `longest` seconds would be timed gets fewer rounds, at least 3. One that a candidate
    refuses is done by the others alone, as is all that comes after one's end.
    """
    processes = {
        name: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name, command in candidates.items()
    }
    try:
        versions = {name: _answer(name, p)["ready"] for name, p in processes.items()}
        for job in jobs:
            refusals: dict[str, str] = {}
            told_first = _ask_all(processes, f"prepare {job}", refusals)
            costs = {
                name: cost if isinstance(cost, dict) else {"seconds": cost}
                for name, cost in told_first.items()
            }
            once = sum(cost["seconds"] for cost in costs.values())
            enough = max(2, min(rounds, max(3, int(longest / once)))) if once else 0
            told = [_ask_all(_turned(processes, n), "go", refusals) for n in range(enough)]
            answers = {
                name: [each[name] for each in told] for name in processes if name not in refusals
            }
            yield Turns(answers, refusals, versions, costs)
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()  # closes the pipes, and waits for its end


def compare(
    candidates: Mapping[str, Sequence[str]],
    rounds: int,
    jobs: Sequence[str] = ("",),
    longest: float = 30.0,
) -> Iterator[dict[str, Timing]]:
    """`in_turn` of candidates that answer with seconds; a refusal ends all."""
    for turns in in_turn(candidates, rounds, jobs, longest):
        for name, reason in turns.refusals.items():
            raise SystemExit(f"the candidate {name!r} failed: {reason}")
        yield {name: timing(each, turns.versions[name]) for name, each in turns.answers.items()}


def timing(seconds: Sequence[float], versions: dict[str, str]) -> Timing:
    """The middle of several rounds."""
    lower, _, upper = statistics.quantiles(seconds, n=4, method="inclusive")
    return Timing(statistics.median(seconds), lower, upper, versions)


def device() -> str:
    """The processor's name and the number of cores that may be used."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    info = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {cores} cores"


def wall(work: Callable[[], Any], repeats: int) -> float:
    """Seconds of one of `repeats` calls."""
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - start) / repeats


def rested(work: Callable[[], Any], repeats: int) -> float:
    """`wall` after a rest, and once more untimed: its data and its memory are there again."""
    time.sleep(PAUSE)
    work()
    return wall(work, repeats)


def _turned(processes: Mapping[str, Any], by: int) -> dict[str, Any]:
    """The same, beginning with another."""
    names = list(processes)
    first = by % len(names)
    return {name: processes[name] for name in names[first:] + names[:first]}


def _ask_all(
    processes: Mapping[str, "subprocess.Popen[str]"], request: str, refusals: dict[str, str]
) -> dict[str, Any]:
    """Each one's answer, one after the other; a refusal goes to `refusals`, and asks no more."""
    answers = {}
    for name in [name for name in processes if name not in refusals]:
        try:
            answers[name] = _answer(name, processes[name], request)
        except _Ended:
            refusals[name] = f"stopped with exit code {processes[name].wait()}"
            continue
        if isinstance(answers[name], dict) and "refusal" in answers[name]:
            refusals[name] = answers.pop(name)["refusal"]
    return answers


class _Ended(SystemExit):
    """A candidate is no more."""


def _answer(name: str, process: "subprocess.Popen[str]", request: str = "") -> Any:
    """What a candidate says next, to a request."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        print(request, file=process.stdin, end="\n" if request else "", flush=True)
    line = process.stdout.readline()
    if not line:
        raise _Ended(f"the candidate {name!r} stopped with exit code {process.wait()}")
    return json.loads(line)
