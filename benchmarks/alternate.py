"""Timing several programs in turn, so that a machine's drift falls on all of them alike.

Each candidate is a process of its own (two frameworks' thread pools in one would fight), possibly
under another Python. It makes ready, prints "ready" and its versions as JSON, and then, for each
line it reads, does its work once and prints the seconds that it took.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Timing(NamedTuple):
    """Seconds: the median, and the lower and upper quartile; and what the candidate ran on."""

    median: float
    lower: float
    upper: float
    versions: dict[str, str]


def serve(work: Callable[[], Any], versions: Mapping[str, str], warm_up: int = 3) -> None:
    """The candidate's side. `work` does one round and returns when all of it is done."""
    for _ in range(warm_up):
        work()
    print(json.dumps({"ready": dict(versions)}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        work()
        print(time.perf_counter() - start, flush=True)


def compare(candidates: Mapping[str, Sequence[str]], rounds: int) -> dict[str, Timing]:
    """Starts each candidate's command, and times all of them in turn, `rounds` times."""
    processes = {
        name: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name, command in candidates.items()
    }
    try:
        versions = {name: json.loads(_line(name, p))["ready"] for name, p in processes.items()}
        seconds: dict[str, list[float]] = {name: [] for name in processes}
        for _ in range(rounds):
            for name, process in processes.items():
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
                seconds[name].append(float(_line(name, process)))
    finally:
        for process in processes.values():
            process.kill()
    return {
        name: Timing(statistics.median(each), *_quartiles(each), versions[name])
        for name, each in seconds.items()
    }


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


def _quartiles(values: list[float]) -> tuple[float, float]:
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, upper


def _line(name: str, process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"the candidate {name!r} stopped with exit code {process.wait()}")
    return line
