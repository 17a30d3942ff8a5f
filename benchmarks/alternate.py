"""Timing several programs in turn, so that a machine's drift falls on all of them alike.

Each candidate is a process of its own (two frameworks' thread pools in one would fight), possibly
under another Python. It prints "ready" and its versions as JSON, and then answers each line with
seconds: "prepare JOB" makes a job ready and warms it up, "go" does one round of it.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
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


def serve(
    prepare: Callable[[str], Callable[[], Any]], versions: Mapping[str, str], warm_up: int = 3
) -> None:
    """The candidate's side.

    Args:
      prepare: makes a job's work; each call of the work does one round, and returns when all of
        it is done.
      versions: what runs here.
      warm_up: how many rounds are not timed.
    """
    print(json.dumps({"ready": dict(versions)}), flush=True)
    work: Callable[[], Any]
    for line in sys.stdin:
        if line.startswith("prepare "):
            work = prepare(line.removeprefix("prepare ").rstrip("\n"))
            seconds = _seconds(work, 1)
            for _ in range(warm_up - 1 if seconds < SLOW else 0):
                seconds = min(seconds, _seconds(work, 1))
            repeats = max(1, round(SHORTEST / seconds))
            print(seconds, flush=True)
        else:
            time.sleep(PAUSE)
            if seconds < SLOW:
                work()  # fetches its data into the cache again
            print(_seconds(work, repeats), flush=True)


def compare(
    candidates: Mapping[str, Sequence[str]],
    rounds: int,
    jobs: Sequence[str] = ("",),
    longest: float = 30.0,
) -> Iterator[dict[str, Timing]]:
    """Starts each candidate's command, and times all of them in turn, `rounds` times for each job.

    A job that would take longer than `longest` seconds in all gets fewer rounds, at least 3.
    """
    processes = {
        name: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name, command in candidates.items()
    }
    try:
        versions = {name: json.loads(_line(name, p))["ready"] for name, p in processes.items()}
        for job in jobs:
            once = sum(_ask(name, p, f"prepare {job}") for name, p in processes.items())
            seconds: dict[str, list[float]] = {name: [] for name in processes}
            for _ in range(max(2, min(rounds, max(3, int(longest / once))))):
                for name, process in processes.items():
                    seconds[name].append(_ask(name, process, "go"))
            yield {
                name: Timing(statistics.median(each), *_quartiles(each), versions[name])
                for name, each in seconds.items()
            }
    finally:
        for process in processes.values():
            process.kill()


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


def _seconds(work: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - start) / repeats


def _ask(name: str, process: "subprocess.Popen[str]", request: str) -> float:
    assert process.stdin is not None
    process.stdin.write(request + "\n")
    process.stdin.flush()
    return float(_line(name, process))


def _quartiles(values: list[float]) -> tuple[float, float]:
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, upper


def _line(name: str, process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"the candidate {name!r} stopped with exit code {process.wait()}")
    return line
