"""Interleaved timing: candidates take turns, so that a machine's drift falls on all of them alike.

Each candidate is a process of its own, possibly under another Python: the thread pools of two
frameworks in one process would compete for the cores. A candidate prints {"ready": versions}, and
then answers each line of its input with a line of JSON:

- "prepare WORKLOAD": builds and warms up a workload; answers with the seconds of a round, or with
  an object that has these under "seconds" beside other costs.
- "round" or "round ARGUMENT": runs one round; answers with its figures.

To what it cannot do it answers {"refusal": reason}.
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

# Seconds without work before a measurement: a thread pool spins for a while after its last work,
# and would take a core from the next candidate's.
PAUSE_SECONDS = 0.1
# The least seconds of a measurement: shorter work is repeated, and its mean taken.
MIN_SECONDS = 0.005
# Work that takes longer than this needs no warm-up beyond its first call.
SLOW_SECONDS = 0.5


class Timing(NamedTuple):
    """Seconds (median, lower and upper quartile), and the versions of what ran."""

    median: float
    lower: float
    upper: float
    versions: dict[str, str]


class Measurement(NamedTuple):
    """All candidates' answers for one workload, by candidate.

    Args:
      rounds: the figures of each round.
      refusals: the reason of a candidate that has no figures.
      versions: of what each runs on.
      costs: the answer to "prepare", at least its "seconds".
    """

    rounds: dict[str, list[Any]]
    refusals: dict[str, str]
    versions: dict[str, dict[str, str]]
    costs: dict[str, dict[str, Any]]


def serve(
    prepare: Callable[[str], tuple[float | Mapping[str, Any], Callable[..., Any]]],
    versions: Mapping[str, str],
) -> None:
    """Runs a candidate: answers requests on the standard input until it ends.

    Args:
      prepare: prepares a workload. Returns the seconds of a round, or a mapping of costs that has
        them (see `Measurement.costs`), and a function that runs one round and returns its figures.
        It is called on the round's argument, if `interleave` has any.
      versions: of what runs here.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer

    def send(answer: Any) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    send({"ready": dict(versions)})
    run_round: Callable[..., Any] | None = None
    for line in sys.stdin:
        request, _, argument = line.rstrip("\n").partition(" ")
        try:
            if request == "prepare":
                run_round = None  # frees the memory of the last workload
                cost, run_round = prepare(argument)
                send(cost)
            else:
                assert run_round is not None, "no workload is prepared"
                send(run_round(argument) if argument else run_round())
        except Exception as error:
            if not isinstance(error, NotImplementedError):  # its message says enough
                traceback.print_exc()
            send({"refusal": f"{type(error).__name__}: {error}".partition("\n")[0]})


def serve_wall_times(
    prepare: Callable[[str], Callable[[], Any]], versions: Mapping[str, str], warm_up: int = 3
) -> None:
    """Runs a candidate whose rounds are timed by the wall clock.

    Args:
      prepare: prepares a workload. Returns a function that does its work once, and returns when
        all of it is done.
      versions: of what runs here.
      warm_up: how many calls are not timed.
    """

    def prepare_round(workload: str) -> tuple[float, Callable[[], float]]:
        work = prepare(workload)
        seconds = wall_seconds(work, 1)
        for _ in range(warm_up - 1 if seconds < SLOW_SECONDS else 0):
            seconds = min(seconds, wall_seconds(work, 1))
        return seconds, functools.partial(wall_seconds_after_pause, work, count_repeats(seconds))

    serve(prepare_round, versions)


def interleave(
    candidates: Mapping[str, Sequence[str]],
    rounds: int,
    workloads: Sequence[str],
    longest: float,
    arguments: Sequence[str] = ("",),
) -> Iterator[Measurement]:
    """Starts the candidates' commands, and measures each workload in all of them, round by round.

    Each round begins with another candidate, so that what one leaves behind (a warm cache, memory
    that the system has yet to clear) does not always meet the same next one. A workload whose
    rounds would take more than `longest` seconds gets fewer of them, at least 3. A workload that a
    candidate refuses is measured in the others, and so is all that follows a candidate's exit.

    A round asks all candidates for each of `arguments`, one after another; the figures are in that
    order.
    """
    processes = {
        name: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name, command in candidates.items()
    }
    try:
        versions = {name: _request(name, p)["ready"] for name, p in processes.items()}
        for workload in workloads:
            refusals: dict[str, str] = {}
            prepared = _request_all(processes, f"prepare {workload}", refusals)
            costs = {
                name: cost if isinstance(cost, dict) else {"seconds": cost}
                for name, cost in prepared.items()
            }
            round_seconds = sum(cost["seconds"] for cost in costs.values())
            count = 0
            if round_seconds:
                count = max(2, min(rounds, max(3, int(longest / round_seconds))))
            answers = [
                _request_all(
                    _rotate(processes, number + position), f"round {argument}".rstrip(), refusals
                )
                for number in range(count)
                for position, argument in enumerate(arguments)
            ]
            figures = {
                name: [answer[name] for answer in answers]
                for name in processes
                if name not in refusals
            }
            yield Measurement(figures, refusals, versions, costs)
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()  # closes the pipes, and waits for its end


def interleave_timings(
    candidates: Mapping[str, Sequence[str]],
    rounds: int,
    workloads: Sequence[str] = ("",),
    longest: float = 30.0,
) -> Iterator[dict[str, Timing]]:
    """`interleave` of candidates whose rounds give seconds.

    Raises:
      SystemExit: a candidate refuses a workload.
    """
    for measurement in interleave(candidates, rounds, workloads, longest):
        for name, reason in measurement.refusals.items():
            raise SystemExit(f"the candidate {name!r} failed: {reason}")
        yield {
            name: summarize(seconds, measurement.versions[name])
            for name, seconds in measurement.rounds.items()
        }


def summarize(seconds: Sequence[float], versions: dict[str, str]) -> Timing:
    """Median and quartiles of several rounds."""
    lower, _, upper = statistics.quantiles(seconds, n=4, method="inclusive")
    return Timing(statistics.median(seconds), lower, upper, versions)


def describe_cpu() -> str:
    """The processor's name and the number of cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    info = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {cores} cores"


def count_repeats(seconds: float) -> int:
    """How many calls that take so many seconds make a measurement long enough."""
    return max(1, round(MIN_SECONDS / seconds))


def wall_seconds(work: Callable[[], Any], repeats: int) -> float:
    """Mean seconds of a call, over `repeats` of them."""
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - start) / repeats


def wall_seconds_after_pause(work: Callable[[], Any], repeats: int) -> float:
    """`wall_seconds` after a pause and an untimed call, which warms caches and memory up again."""
    time.sleep(PAUSE_SECONDS)
    work()
    return wall_seconds(work, repeats)


def _rotate(processes: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The same processes in another order, that of a number of a round.

    Each begins one of as many rounds as there are processes. Of three and more, the next so many
    rounds are backwards: otherwise each would always follow the same one.
    """
    names = list(processes)
    cycle, first = divmod(number, len(names))
    rotated = names[first:] + names[:first]
    backwards = len(names) > 2 and cycle % 2
    return {name: processes[name] for name in (reversed(rotated) if backwards else rotated)}


def _request_all(
    processes: Mapping[str, "subprocess.Popen[str]"], request: str, refusals: dict[str, str]
) -> dict[str, Any]:
    """Asks one candidate after another; adds to `refusals`, whose candidates are not asked."""
    answers = {}
    for name in [name for name in processes if name not in refusals]:
        try:
            answers[name] = _request(name, processes[name], request)
        except _CandidateExitError:
            refusals[name] = f"stopped with exit code {processes[name].wait()}"
            continue
        if isinstance(answers[name], dict) and "refusal" in answers[name]:
            refusals[name] = answers.pop(name)["refusal"]
    return answers


class _CandidateExitError(SystemExit):
    """A candidate's process has ended."""


def _request(name: str, process: "subprocess.Popen[str]", request: str = "") -> Any:
    """Sends a request, if there is one, and returns the candidate's next answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        print(request, file=process.stdin, end="\n" if request else "", flush=True)
    line = process.stdout.readline()
    if not line:
        raise _CandidateExitError(f"the candidate {name!r} stopped with exit code {process.wait()}")
    return json.loads(line)
