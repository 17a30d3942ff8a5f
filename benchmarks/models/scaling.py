"""Times models as the batch, the size of the images or the number of devices grows.

    python -m benchmarks.models.scaling [--models MobileNetV2] [--peers torch] [--json FILE]

Inference is fused (PyTorch's is the original, unfused), a training step is SGD with momentum. The
batch grows at the fixed `--size`, the size at the fixed `--batch`. On several devices a batch of
`--batch` images is divided among them by its sharding, and the program is a plain `zoo.jit`.

On a CPU the devices are simulated: they share its cores, so no speed-up is to be expected, and a
constant time says that dividing the work costs nothing. `--device gpu` uses real devices.

The exponent is the slope of log(seconds) over log(value) by least squares: 1 is proportional, and a
pass of a convolutional network grows with the size at an exponent of about 2. The marginal cost is
the slope of seconds over images.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import interleaved
from benchmarks.harness.recording import ROOT, describe_commit, format_command, write_json
from benchmarks.models import scaling_worker
from benchmarks.models.scaling_worker import PASSES, ScalingPoint
from benchmarks.report import growth

AXES = ("batch", "size", "devices")
RECORDED_OPTIONS = ("batch", "size", "device", "peers", "rounds", "longest")


def fit_growth(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with each candidate's exponent, and over batches its marginal seconds an image.

    A candidate that was timed at a single value has neither.
    """
    fitted: list[dict[str, Any]] = [{**row, "exponent": {}, "marginal": {}} for row in rows]
    for axis, axis_rows in growth.group_by_axis(fitted).items():
        for (_, _, name), line in growth.group_by_line(axis_rows).items():
            if len(line) < 2:
                continue
            exponent = growth.fit_exponent(line, name)
            values = [row["value"] for row in line]
            seconds = [row["seconds"][name]["median"] for row in line]
            for row in line:
                row["exponent"][name] = exponent
                if axis == "batch":
                    row["marginal"][name] = statistics.linear_regression(values, seconds).slope
    return fitted


def list_points(options: argparse.Namespace, axis: str) -> list[ScalingPoint]:
    """Every model's passes at each value of an axis."""
    batch, size = options.batch, options.size
    settings: dict[str, list[tuple[int, ...]]] = {
        "batch": [(each, size) for each in options.batches],
        "size": [(batch, each) for each in options.sizes],
        "devices": [(batch, size, each) for each in options.devices],
    }
    return [
        ScalingPoint(model, pass_name, *each)
        for model in options.models
        for pass_name in PASSES
        for each in settings[axis]
    ]


def make_commands(options: argparse.Namespace, axis: str) -> dict[str, list[str]]:
    """The command of each candidate, by its name; only ours runs on several devices."""
    peers = [] if axis == "devices" else [peer for peer in options.peers.split(",") if peer]
    count = max(options.devices, default=1) if axis == "devices" else 1
    arguments = ["--device", options.device, "--count", str(count)]
    return {
        name: [
            options.jax_python if name == "ours" else sys.executable,
            *("-m", "benchmarks.models.scaling", *arguments, "--worker", name),
        ]
        for name in ("ours", *peers)
    }


def measure(options: argparse.Namespace) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each row, and the versions of the candidates."""
    for axis in AXES:
        points = list_points(options, axis)
        if not points:
            continue
        workloads = [point.encode() for point in points]
        measurements = interleaved.interleave(
            make_commands(options, axis), options.rounds, workloads, options.longest
        )
        for point, measurement in zip(points, measurements, strict=True):
            row = {
                "model": point.model,
                "pass": point.pass_name,
                "axis": axis,
                "value": getattr(point, axis),
                "batch": point.batch,
                "size": point.size,
                "devices": point.devices,
                "dtype": "float32",
                "seconds": {
                    name: dict(zip(("median", "lower", "upper"), timing[:3], strict=True))
                    for name, seconds in measurement.rounds.items()
                    for timing in [interleaved.summarize(seconds, measurement.versions[name])]
                },
                "refusals": measurement.refusals,
            }
            yield row, measurement.versions


def format_row(row: Mapping[str, Any]) -> str:
    """A row as a line of the terminal's table."""
    cells = [
        f"{name} {1e3 * t['median']:9.2f} ± {5e2 * (t['upper'] - t['lower']):.2f}"
        for name, t in row["seconds"].items()
    ]
    cells += [f"{name} –: {reason}" for name, reason in row["refusals"].items()]
    title = f"{row['model']}, {row['pass']}"
    return f"{title:36}{row['axis']:8}{row['value']:5}  {'   '.join(cells)}"


def describe_growth(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A sentence on the exponent and the marginal cost of each model, pass, candidate and axis."""
    last_rows = {(row["model"], row["pass"], row["axis"]): row for row in rows}
    for (model, pass_name, axis), row in last_rows.items():
        for name, exponent in row["exponent"].items():
            marginal = row["marginal"].get(name)
            cost = "" if marginal is None else f", {1e3 * marginal:.2f} ms an extra image"
            yield f"{model}, {pass_name}, {name}: time grows as {axis}^{exponent:.2f}{cost}"


def _parse_numbers(text: str) -> list[int]:
    numbers = [int(each) for each in text.split(",") if each]
    if any(number < 1 for number in numbers):
        raise ValueError
    return numbers


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.models.scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", type=lambda t: t.split(","), default=["MobileNetV2"])
    parser.add_argument("--batches", type=_parse_numbers, default=[1, 2, 4, 8, 16])
    parser.add_argument("--sizes", type=_parse_numbers, default=[96, 128, 160, 192, 224])
    parser.add_argument("--devices", type=_parse_numbers, default=[1, 2, 4, 8])
    parser.add_argument("--batch", type=int, default=8, help="where another axis grows")
    parser.add_argument("--size", type=int, default=128, help="where another axis grows")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--peers", default="", help="torch, or nothing")
    parser.add_argument("--jax-python", default=sys.executable, help="another Python to run jax")
    parser.add_argument("--rounds", type=int, default=11, help="measurements of each row")
    parser.add_argument(
        "--longest", type=float, default=12.0, help="seconds that the rounds of a row may take"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--worker", choices=("ours", "torch"), help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if set(options.peers.split(",")) - {"", "torch"}:
        parser.error(f"--peers: expected torch or nothing, got {options.peers!r}")
    if options.batch < 1 or options.size < 1:
        parser.error("--batch and --size must be at least 1")
    if uneven := [d for d in options.devices if options.batch % d]:
        parser.error(f"--devices: a batch of {options.batch} cannot be divided by {uneven[0]}")
    return options


def main() -> None:
    """Runs the benchmark, or one of its candidates."""
    options = parse_arguments()
    gpu = options.device == "gpu"
    if options.worker == "torch":
        return scaling_worker.run_torch(gpu)
    if options.worker:
        return scaling_worker.run_zoo(gpu, options.count)
    from zoo.models.base import UnknownModelError, find_model

    try:
        options.models = [find_model(model).name for model in options.models]
    except UnknownModelError as error:
        raise SystemExit(f"--models: {error}") from error
    os.chdir(ROOT)
    return run(options, sys.argv[1:])


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Measures, prints a table, and writes JSON if asked to."""
    record: dict[str, Any] = {
        "benchmark": "scaling",
        "device": interleaved.describe_cpu(),
        "command": format_command("benchmarks.models.scaling", arguments),
        "commit": describe_commit(),
        "options": {name: getattr(options, name) for name in RECORDED_OPTIONS},
        "versions": {},
    }
    rows: list[dict[str, Any]] = []
    print(f"{record['device']}; ms, ± half the interquartile range")
    for row, versions in measure(options):
        rows.append(row)
        print(format_row(row), flush=True)
        record["versions"] |= versions
        if options.device == "gpu":
            record["device"] = versions["ours"]["device"]
        # After each row: a long run may be cut off.
        write_json(options.json, {**record, "rows": fit_growth(rows)})
    for line in describe_growth(fit_growth(rows)):
        print(line)


if __name__ == "__main__":
    main()
