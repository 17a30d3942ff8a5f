"""Times the methods of `zoo.visualize`, beside captum and pytorch-grad-cam, and a dream.

    python -m benchmarks.visualize [--only CASE] [--rounds 7] [--json FILE.json]

The libraries need the extra `peers`. Each call begins with a prepared photo, and ends with its map
as a NumPy array; Grad-CAM of the embedded model begins with the file.
"""

import argparse
import functools
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.harness import interleaved
from benchmarks.harness.recording import (
    ROOT,
    describe_commit,
    format_command,
    summarize_row,
    write_json,
)
from benchmarks.visualize import libraries, ours
from benchmarks.visualize.cases import CAPTUM, CASES, FORWARD, GRAD_CAM, OURS, Case, find_case

SLOW_ROUNDS = 2
# Calls after the first, which compiles; of long work one is enough.
WARM_UP = 3
CANDIDATES: dict[str, Callable[[Case], Callable[[], Any]]] = {
    OURS: ours.make_work,
    CAPTUM: libraries.make_captum_work,
    GRAD_CAM: libraries.make_grad_cam_work,
    FORWARD: ours.make_forward,
}
PACKAGES = {
    OURS: ("jax",),
    CAPTUM: ("captum", "torch"),
    GRAD_CAM: ("grad-cam", "torch"),
    FORWARD: ("jax",),
}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line; its `cases` are those that it selects."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.visualize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument(
        "--rounds",
        type=int,
        default=7,
        help=f"measurements of each case; of slow ones at most {SLOW_ROUNDS}",
    )
    parser.add_argument("--longest", type=float, default=15.0, help="seconds of a case's rounds")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--worker", choices=CANDIDATES, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.cases = [case for case in CASES if options.only in case.name]
    if not options.cases:
        known = "; ".join(case.name for case in CASES)
        parser.error(f"argument --only: expected a part of one of: {known}; got {options.only!r}")
    if options.rounds < 2:
        parser.error(f"argument --rounds: expected at least 2, got {options.rounds}")
    return options


def run_candidate(name: str) -> None:
    """Answers with the seconds of a call, until its standard input ends."""

    def prepare(workload: str) -> tuple[dict[str, float], Callable[[], float]]:
        case = find_case(workload)
        if name not in case.candidates:
            raise NotImplementedError(f"{name} has no part in it")
        work = CANDIDATES[name](case)
        first = seconds = interleaved.wall_seconds(work, 1)
        for _ in range(0 if case.slow else WARM_UP):
            seconds = interleaved.wall_seconds(work, 1)
            if seconds >= interleaved.SLOW_SECONDS:
                break
        if case.slow or seconds >= interleaved.SLOW_SECONDS:
            run_round = functools.partial(time_slow, work)
        else:
            repeats = interleaved.count_repeats(seconds)
            run_round = functools.partial(interleaved.wall_seconds_after_pause, work, repeats)
        return {"seconds": seconds, "first": first}, run_round

    versions = {package: metadata.version(package) for package in PACKAGES[name]}
    interleaved.serve(prepare, {**versions, "python": sys.version.split()[0]})


def time_slow(work: Callable[[], Any]) -> float:
    """The seconds of a call that is long enough to need no other before it."""
    time.sleep(interleaved.PAUSE_SECONDS)
    return interleaved.wall_seconds(work, 1)


def measure(
    cases: Sequence[Case], rounds: int, longest: float
) -> Iterator[tuple[Case, interleaved.Measurement]]:
    """The figures of each case; slow ones come last."""
    for slow in (False, True):
        chosen = [case for case in cases if case.slow == slow]
        names = dict.fromkeys(name for case in chosen for name in case.candidates)
        # A candidate is killed at the end, at which multiprocessing complains of semaphores.
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.visualize", "--worker"]
        measurements = interleaved.interleave(
            {name: [*command, name] for name in names},
            min(rounds, SLOW_ROUNDS) if slow else rounds,
            [case.name for case in chosen],
            longest,
        )
        for case, measured in zip(chosen, measurements, strict=True):
            for name in case.candidates:
                if name in measured.refusals:
                    raise SystemExit(f"{case.name}, {name}: {measured.refusals[name]}")
            yield case, measured


def make_row(case: Case, measured: interleaved.Measurement) -> dict[str, Any]:
    """A case's figures; its ratio is that of ours to the forward pass, or of a library to ours."""
    rounds = {name: measured.rounds[name] for name in case.candidates}
    row = {
        "model": case.model,
        "method": case.method,
        "first": {name: measured.costs[name]["first"] for name in rounds},
    }
    others = [name for name in rounds if name not in (OURS, FORWARD)]
    compared = (OURS, FORWARD) if FORWARD in rounds else None
    if others:
        medians = summarize_row(row, rounds, None)["seconds"]
        compared = (min(others, key=lambda name: medians[name]["median"]), OURS)
    return summarize_row(row, rounds, compared)


def print_row(row: Mapping[str, Any]) -> None:
    """Milliseconds of each candidate, and the ratio; in brackets the quartiles."""
    print(f"{row['model']}, {row['method']}")
    for name, timing in row["seconds"].items():
        median, low, high = (1e3 * timing[key] for key in ("median", "lower", "upper"))
        first = row["first"][name]
        print(f"    {name:20}{median:10.2f} ms ({low:.2f} to {high:.2f}); first {first:.2f} s")
    if ratio := row.get("ratio"):
        print(f"    ratio {ratio['median']:.2f} ({ratio['lower']:.2f} to {ratio['upper']:.2f})")
    sys.stdout.flush()


def main() -> None:
    """Measures, prints the figures, and writes JSON if asked to."""
    options = parse_arguments()
    if options.worker:
        run_candidate(options.worker)
        return
    os.chdir(ROOT)
    record: dict[str, Any] = {
        "benchmark": "visualize",
        "device": interleaved.describe_cpu(),
        "command": format_command("benchmarks.visualize", sys.argv[1:]),
        "commit": describe_commit(),
        "versions": {},
        "rows": [],
    }
    for case, measured in measure(options.cases, options.rounds, options.longest):
        row = make_row(case, measured)
        record["versions"] |= {name: measured.versions[name] for name in case.candidates}
        record["rows"].append(row)
        print_row(row)
        write_json(options.json, record)  # after each case: a long run may be cut off


if __name__ == "__main__":
    main()
