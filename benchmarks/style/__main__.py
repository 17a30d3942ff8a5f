"""Times painting and training of `zoo.style` beside the same network in PyTorch.

    python -m benchmarks.style [--only CASE] [--rounds 7] [--json FILE.json]

PyTorch needs the extra `peers`.
"""

import argparse
import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
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
from benchmarks.style.candidates import CANDIDATES
from benchmarks.style.cases import CASES, TORCH, ZOO, Case

# Calls after the first, which compiles.
WARM_UP = 2


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line; its `cases` are those that it selects."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.style",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each case")
    parser.add_argument("--longest", type=float, default=30.0, help="seconds of a case's rounds")
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
        case = next(case for case in CASES if case.name == workload)
        work = CANDIDATES[name](case)
        first = interleaved.wall_seconds(work, 1)
        for _ in range(WARM_UP):
            seconds = interleaved.wall_seconds(work, 1)
        repeats = interleaved.count_repeats(seconds)
        run_round = functools.partial(interleaved.wall_seconds_after_pause, work, repeats)
        return {"seconds": seconds, "first": first}, run_round

    package = {ZOO: "jax", TORCH: "torch"}[name]
    versions = {package: metadata.version(package), "python": sys.version.split()[0]}
    interleaved.serve(prepare, versions)


def make_row(case: Case, measured: interleaved.Measurement) -> dict[str, Any]:
    """A case's figures; its ratio is PyTorch's time to ours."""
    first = {name: measured.costs[name]["first"] for name in CANDIDATES}
    row = {"workload": case.name, "first": first}
    return summarize_row(row, measured.rounds, (TORCH, ZOO))


def print_row(row: Mapping[str, Any]) -> None:
    """Milliseconds of each candidate, and the ratio; in brackets the quartiles."""
    print(row["workload"])
    for name, timing in row["seconds"].items():
        median, low, high = (1e3 * timing[key] for key in ("median", "lower", "upper"))
        print(f"    {name:8}{median:9.1f} ms ({low:.1f} to {high:.1f})")
    ratio = row["ratio"]
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
        "benchmark": "style",
        "device": interleaved.describe_cpu(),
        "command": format_command("benchmarks.style", sys.argv[1:]),
        "commit": describe_commit(),
        "versions": {},
        "rows": [],
    }
    # A candidate is killed at the end, at which multiprocessing complains of semaphores.
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.style", "--worker"]
    measurements = interleaved.interleave(
        {name: [*command, name] for name in CANDIDATES},
        options.rounds,
        [case.name for case in options.cases],
        options.longest,
    )
    for case, measured in zip(options.cases, measurements, strict=True):
        if measured.refusals:
            raise SystemExit(f"{case.name}: {measured.refusals}")
        row = make_row(case, measured)
        record["versions"] |= {name: measured.versions[name] for name in CANDIDATES}
        record["rows"].append(row)
        print_row(row)
        write_json(options.json, record)  # after each case: a long run may be cut off


if __name__ == "__main__":
    main()
