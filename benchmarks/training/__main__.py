"""Times what training adds to a model's step.

    python -m benchmarks.training loop         a step of `fit`, beside the step alone
    python -m benchmarks.training input        photos decoded and augmented, beside torchvision
    python -m benchmarks.training libraries    libraries of augmentation, on decoded photos
    python -m benchmarks.training … [--only CASE] [--rounds 15] [--json FILE.json]

They need the extra `train`; `input` and `libraries` also `peers`.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
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
from benchmarks.training import input as input_
from benchmarks.training import libraries, loop

TOPICS: dict[str, Any] = {"loop": loop, "input": input_, "libraries": libraries}
# Whose seconds are compared with whose.
RATIOS = {"loop": (loop.FIT, loop.STEP), "input": ("ours", "torch")}


def list_cases(topic: str) -> list[str]:
    """The names of a topic's cases."""
    return [getattr(case, "name", case) for case in TOPICS[topic].CASES]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line; its `cases` are the names of those that it selects."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("topic", choices=TOPICS)
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each case")
    parser.add_argument("--longest", type=float, default=300.0, help="seconds of a case's rounds")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.cases = [name for name in list_cases(options.topic) if options.only in name]
    if not options.cases:
        known = "; ".join(list_cases(options.topic))
        parser.error(f"argument --only: expected a part of one of: {known}; got {options.only!r}")
    if options.rounds < 2:
        parser.error(f"argument --rounds: expected at least 2, got {options.rounds}")
    return options


def main() -> None:
    """Measures, prints the figures, and writes JSON if asked to."""
    options = parse_arguments()
    topic = TOPICS[options.topic]
    if options.worker:
        topic.run_candidate(options.worker, options.folder)
        return
    os.chdir(ROOT)

    def command(*arguments: str) -> list[str]:
        # A candidate is killed at the end, at which multiprocessing complains of semaphores.
        quiet = ("-W", "ignore:resource_tracker")
        return [sys.executable, *quiet, "-m", "benchmarks.training", options.topic, *arguments]

    record: dict[str, Any] = {
        "benchmark": "training",
        "topic": options.topic,
        "device": interleaved.describe_cpu(),
        "command": format_command("benchmarks.training", sys.argv[1:]),
        "commit": describe_commit(),
        "versions": {},
        "rows": [],
    }
    for row, rounds, versions in topic.measure(
        options.cases, options.rounds, options.longest, command
    ):
        summary = summarize_row(row, rounds, RATIOS.get(options.topic))
        record["versions"] |= versions
        record["rows"].append(summary)
        print_row(summary)
        write_json(options.json, record)  # after each case: a long run may be cut off


def print_row(row: Mapping[str, Any]) -> None:
    """Images a second of each candidate, and the ratio; in brackets the quartiles."""
    print(f"{row['case']}, batch {row['batch']}: images a second")
    for name, timing in row["seconds"].items():
        median, low, high = (row["batch"] / timing[key] for key in ("median", "upper", "lower"))
        print(f"    {name:20}{median:8.1f} ({low:.1f} to {high:.1f})")
    for name, reason in row.get("refusals", {}).items():
        print(f"    {name:20}{'–':>8} {reason}")
    if ratio := row.get("ratio"):
        text = f"{ratio['median']:.3f} ({ratio['lower']:.3f} to {ratio['upper']:.3f})"
        print("    ratio of the seconds of the first two:", text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
