"""Times single calls of models that are deployed on a CPU, beside onnxruntime.

    python -m benchmarks.models.latency [--models MobileNetV2,ResNet50] [--batches 1,8]
        [--peers onnxruntime,ours] [--pause 0.03] [--rounds 20] [--starts 5]
        [--jax-python PATH] [--json FILE]

"ours, compiled" is `Trained.compile`; "ours" is `zoo.jit` of the fused model, with weights as
arguments. Each call is a sample: it begins with another batch of float32 images than the last, and
ends when the logits are in a NumPy array. A call's time depends on what came before it, so there
are three modes: calls back to back, each after a pause, and candidates that take turns call by
call. The candidates must agree on the logits.

With `--starts`, whole processes are timed as well: from the start to the first logits, with weights
in a file.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import interleaved
from benchmarks.harness.recording import ROOT, describe_commit, format_command, write_json
from benchmarks.models import deployed, latency_worker, run, starts
from benchmarks.models.latency_worker import LatencyPoint, Mode
from benchmarks.report import targets
from benchmarks.report.records import Record

BACK_TO_BACK, TURNS = "back to back", "taking turns"
PEERS = (deployed.ONNXRUNTIME, deployed.OURS)
# Timed calls of each candidate in a round, in each mode.
CALLS = 5
RECORDED_OPTIONS = ("models", "batches", "size", "peers", "pause", "rounds", "longest")
# The largest difference of logits, over the largest logit. Random norms multiply roundings.
TOLERANCE = 1e-2


def list_modes(pause: float) -> dict[str, list[Mode]]:
    """What a candidate is asked for in a round, by the mode's name."""
    return {
        BACK_TO_BACK: [Mode(pause=0, calls=CALLS, warm_up=3)],
        f"after {1e3 * pause:g} ms": [Mode(pause, CALLS, warm_up=1)],
        TURNS: [Mode(pause=0, calls=1, warm_up=0)] * CALLS,
    }


def make_commands(options: argparse.Namespace) -> dict[str, list[str]]:
    """The command of each candidate, by its name."""
    return {
        name: [
            options.jax_python if run.is_jax(name) else sys.executable,
            *("-m", "benchmarks.models.latency", "--worker", name),
        ]
        for name in (deployed.COMPILED, *options.peers)
    }


def measure(
    point: LatencyPoint, options: argparse.Namespace
) -> tuple[list[dict[str, Any]], dict[str, dict[str, str]]]:
    """(a row for each mode, versions by candidate) of a model at one batch."""
    modes = list_modes(options.pause)
    requests = [(name, mode) for name, each in modes.items() for mode in each]
    (measurement,) = interleaved.interleave(
        make_commands(options),
        options.rounds,
        [point._replace(modes=[mode for _, mode in requests]).encode()],
        options.longest,
        [mode.encode() for _, mode in requests],
    )
    check_agreement(measurement)
    samples = {
        candidate: group_by_mode([name for name, _ in requests], answers)
        for candidate, answers in measurement.rounds.items()
    }
    rows = [
        {
            "model": point.model,
            "batch": point.batch,
            "size": point.size,
            "mode": name,
            "seconds": {candidate: summarize(each[name]) for candidate, each in samples.items()},
            "refusals": measurement.refusals,
        }
        for name in modes
    ]
    return rows, measurement.versions


def measure_starts(point: LatencyPoint, options: argparse.Namespace) -> dict[str, Any]:
    """A row of whole processes of a model at one batch."""
    pythons = {
        name: options.jax_python if run.is_jax(name) else sys.executable
        for name in starts.STARTED
        if run.is_jax(name) or name in options.peers
    }
    seconds = starts.time_starts(pythons, point.model, point.batch, point.size, options.starts)
    return {
        "model": point.model,
        "batch": point.batch,
        "size": point.size,
        "seconds": {name: summarize(each) for name, each in seconds.items()},
    }


def check_agreement(measurement: interleaved.Measurement) -> None:
    """Raises SystemExit where two candidates give other logits: they run another model."""
    logits = {name: np.array(cost["logits"]) for name, cost in measurement.costs.items()}
    for name, each in logits.items():
        first, expected = next(iter(logits.items()))
        difference = np.abs(each - expected).max() / np.abs(expected).max()
        if not difference <= TOLERANCE:  # nor NaN
            raise SystemExit(f"the logits of {name} and {first} differ by {difference:.2g}")


def group_by_mode(
    names: Sequence[str], answers: Sequence[Sequence[float]]
) -> dict[str, list[float]]:
    """The samples of each mode.

    Args:
      names: the mode of each request of a round.
      answers: the samples of each request of all rounds.
    """
    grouped: dict[str, list[float]] = {}
    for number, samples in enumerate(answers):
        grouped.setdefault(names[number % len(names)], []).extend(samples)
    return grouped


def summarize(samples: Sequence[float]) -> dict[str, float]:
    """Quartiles, the 90th and the 99th percentile, and the number of samples."""
    lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive")
    percentiles = statistics.quantiles(samples, n=100, method="inclusive")
    return {
        "lower": lower,
        "median": median,
        "upper": upper,
        "p90": percentiles[89],
        "p99": percentiles[98],
        "count": len(samples),
    }


def format_row(row: Mapping[str, Any]) -> Iterator[str]:
    """A row as a line of the terminal's table, and what was refused."""
    onnxruntime = row["seconds"].get(deployed.ONNXRUNTIME)
    cells = []
    for name, timing in row["seconds"].items():
        figures = " / ".join(f"{1e3 * timing[key]:.2f}" for key in ("median", "p90", "p99"))
        ratio = f" = {timing['median'] / onnxruntime['median']:.3f}" if onnxruntime else ""
        cells.append(f"{name} {figures} ({timing['count']}){ratio}")
    yield f"{row['model']}, N{row['batch']}, {row['mode']}: {'; '.join(cells)}"
    for name, reason in row["refusals"].items():
        yield f"    {name}: {reason}"


def format_starts(row: Mapping[str, Any]) -> str:
    """A row of starts as a line of the terminal's table."""
    cells = [f"{name} {timing['median']:.2f} s" for name, timing in row["seconds"].items()]
    return f"{row['model']}, N{row['batch']}, start to first logits: {'; '.join(cells)}"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.models.latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--models", default=",".join(targets.LATENCY_SIZES), help="names, with commas between"
    )
    parser.add_argument("--batches", type=_parse_numbers, default=[1, 8])
    parser.add_argument("--size", type=int, help="of the images; default: the model's own")
    parser.add_argument(
        "--peers", type=_parse_peers, default=list(PEERS), help=f"some of {', '.join(PEERS)}"
    )
    parser.add_argument("--pause", type=float, default=0.03, help="seconds, in the second mode")
    parser.add_argument(
        "--rounds", type=int, default=20, help=f"of {CALLS} calls of each candidate in each mode"
    )
    parser.add_argument(
        "--longest", type=float, default=90.0, help="seconds that a model's rounds may take"
    )
    parser.add_argument("--starts", type=int, default=0, help="whole processes of each candidate")
    parser.add_argument("--jax-python", default=sys.executable, help="another Python to run jax")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--worker", choices=deployed.DEPLOYED, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.rounds < 2 or options.pause <= 0 or options.starts < 0 or options.starts == 1:
        parser.error("expected --rounds and --starts of at least 2, --pause above 0")
    if options.size is not None and options.size < 1:
        parser.error(f"--size: expected at least 1, got {options.size}")
    return options


def _parse_numbers(text: str) -> list[int]:
    numbers = [int(each) for each in text.split(",")]
    if any(number < 1 for number in numbers):
        raise ValueError
    return numbers


def _parse_peers(text: str) -> list[str]:
    """The peers' names; there may be none."""
    for name in (names := [name for name in text.split(",") if name]):
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(PEERS)}; got {name!r}")
    return names


def select_points(options: argparse.Namespace) -> list[LatencyPoint]:
    """Each model at each batch.

    Raises:
      SystemExit: a name is no model's.
    """
    from zoo.models.base import MODELS, UnknownModelError, find_model

    try:
        names = [find_model(model).name for model in options.models.split(",")]
    except UnknownModelError as error:
        raise SystemExit(f"--models: {error}") from error
    return [
        LatencyPoint(name, batch, options.size or MODELS[name].input_size)
        for name in names
        for batch in options.batches
    ]


def main() -> None:
    """Runs the benchmark, or one of its candidates."""
    options = parse_arguments()
    if options.worker:
        return latency_worker.run_candidate(options.worker)
    os.chdir(ROOT)
    return run_all(options, sys.argv[1:])


def run_all(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Measures, prints a table, and writes JSON if asked to."""
    record: dict[str, Any] = {
        "benchmark": "latency",
        "device": interleaved.describe_cpu(),
        "command": format_command("benchmarks.models.latency", arguments),
        "commit": describe_commit(),
        "options": {name: getattr(options, name) for name in RECORDED_OPTIONS},
        "versions": {},
        "rows": [],
    }
    peer = deployed.ONNXRUNTIME
    print(f"{record['device']}; ms: median / p90 / p99 (samples) = median over {peer}'s")
    for point in select_points(options):
        rows, versions = measure(point, options)
        record["versions"] |= versions
        record["rows"] += rows
        for row in rows:
            print(*format_row(row), sep="\n", flush=True)
        if options.starts:
            record.setdefault("starts", []).append(measure_starts(point, options))
            print(format_starts(record["starts"][-1]), flush=True)
        write_json(options.json, record)  # after each model: a long run may be cut off
    for where, check in targets.check_latencies(Record(Path(), "latency", record)):
        print(f"{where}: {check.name} {check.text}")


if __name__ == "__main__":
    main()
