"""Times the workloads of `benchmarks.models` in all candidates, and writes what it measures."""

import argparse
import fnmatch
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import interleaved
from benchmarks.harness.recording import describe_commit, format_command, write_json
from benchmarks.models import deployed
from benchmarks.models.cases import LAYER_PASSES, Workload, count_costs, least_seconds
from benchmarks.models.layers import LAYERS
from benchmarks.operators.cases import COPY, DEVICES, PRODUCT
from benchmarks.report import targets
from benchmarks.report.records import Record

RECORDED_OPTIONS = (
    "models",
    "layers",
    "passes",
    "batches",
    "dtypes",
    "size",
    "peers",
    "device",
    "rounds",
    "longest",
)
TF32 = "as both frameworks have it: jax yes; PyTorch in convolutions, not in products"


def is_jax(name: str) -> bool:
    """Whether a candidate runs on jax, whose Python may be another."""
    return not name.startswith("torch") and name != deployed.ONNXRUNTIME


def make_commands(options: argparse.Namespace) -> dict[str, list[str]]:
    """The command of each candidate, by its name."""
    return {
        name: [
            options.jax_python if is_jax(name) else sys.executable,
            *("-m", "benchmarks.models", "--worker", name, "--device", options.device),
        ]
        for name in ["ours", *options.peers]
    }


def select_workloads(options: argparse.Namespace) -> list[Workload]:
    """The workloads that the options ask for, model by model or layer by layer.

    Raises:
      SystemExit: there are none.
    """
    import zoo
    from zoo.models.base import MODELS

    if options.layers:
        names = fnmatch.filter(LAYERS, options.layers)
        sizes = {name: LAYERS[name].shape[0] for name in names}
    else:
        names = [name for each in options.models.split(",") for name in zoo.list_models(each)]
        sizes = {name: options.size or MODELS[name].input_size for name in names}
    if not sizes:
        pattern = options.layers or options.models
        raise SystemExit(f"no {'layer' if options.layers else 'model'}'s name is like {pattern!r}")
    return [
        Workload(name, pass_name, batch, size, dtype)
        for name, size in sizes.items()
        for dtype in options.dtypes
        for batch in options.batches
        for pass_name in (LAYER_PASSES if options.layers else options.passes)
    ]


def measure_rates(options: argparse.Namespace) -> tuple[float, float]:
    """(bytes a second of a copy, operations a second of a float32 matrix product), by jax."""
    device = DEVICES[options.device]
    command = [options.jax_python, "-m", "benchmarks.operators", "--worker", "lax"]
    command += ["--device", options.device, "--clock", "wall"]
    medians = []
    for measurement in interleaved.interleave({"lax": command}, 7, [COPY, PRODUCT], device.longest):
        if measurement.refusals:
            raise SystemExit(f"the rates cannot be measured: {measurement.refusals['lax']}")
        seconds = [each[0] if device.gpu else each for each in measurement.rounds["lax"]]
        medians.append(interleaved.summarize(seconds, {}).median)
    copy_seconds, product_seconds = medians
    return device.bandwidth(copy_seconds), device.rate(product_seconds)


def measure(
    workload: Workload, options: argparse.Namespace, rate: float, bandwidth: float
) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
    """(row, versions by candidate) of a workload."""
    costs = count_costs(workload)
    (measurement,) = interleaved.interleave(
        make_commands(options), options.rounds, [workload.encode()], options.longest
    )
    timings = {name: interleaved.summarize(each, {}) for name, each in measurement.rounds.items()}
    row: dict[str, Any] = {
        **dict(zip(("model", "pass", "batch", "size", "dtype"), workload, strict=True)),
        "limit": least_seconds(costs, rate, bandwidth),
        "operations": sum(operations for operations, _ in costs),
        "bytes": sum(moved for _, moved in costs),
        "seconds": {
            name: {"median": t.median, "lower": t.lower, "upper": t.upper}
            for name, t in timings.items()
        },
        "refusals": measurement.refusals,
    }
    for figure in ("compile", "peak"):
        row[figure] = {n: c[figure] for n, c in measurement.costs.items() if figure in c}
    return row, measurement.versions


def format_row(row: dict[str, Any], names: Sequence[str]) -> str:
    """A row as a line of the terminal's table."""
    seconds = row["seconds"]
    cells = []
    for name in names:
        t = seconds.get(name)
        cells.append(
            f"{1e3 * t['median']:10.2f} ±{500 * (t['upper'] - t['lower']):6.2f}"
            if t
            else f"{'–':>18}"
        )
    ours, torch = seconds.get("ours"), seconds.get("torch")
    ratio = f"{ours['median'] / torch['median']:.2f}" if ours and torch else "–"
    compiles = "/".join(f"{row['compile'][n]:.1f}" for n in names if n in row["compile"])
    peaks = "/".join(f"{row['peak'][n] / 2**20:.0f}" for n in names if n in row["peak"])
    title = f"{row['model']}, {row['pass']}, N{row['batch']}"
    return f"{title:42}{''.join(cells)}{ratio:>7}{compiles:>12}{peaks:>18}{1e3 * row['limit']:9.2f}"


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Measures, prints a table, and writes JSON if asked to."""
    workloads = select_workloads(options)
    record = _begin_record(options, arguments)
    names = list(make_commands(options))
    print(
        f"{record['device']}; copy {record['bandwidth'] / 1e9:.1f} GB/s, matrix product "
        f"{record['rate'] / 1e9:.0f} GFLOP/s; ms ± half the interquartile range"
    )
    titles = "".join(f"{name:>18}" for name in names)
    print(f"{'':42}{titles}  ratio   compile s           peak MiB    limit")
    for workload in workloads:
        row, versions = measure(workload, options, record["rate"], record["bandwidth"])
        record["versions"] |= versions
        record["rows"].append(row)
        print(format_row(row, names), flush=True)
        for name, reason in row["refusals"].items():
            print(f"    {name}: {reason}")
        write_json(options.json, record)  # after each row: a long run may be cut off
    for row in record["rows"]:
        for check in targets.check_targets(Record(Path(), "models", record), row):
            print(f"{row['model']}, {row['pass']}: {check.name} {check.text}")


def _begin_record(options: argparse.Namespace, arguments: Sequence[str]) -> dict[str, Any]:
    """The content of the JSON file, without rows so far."""
    bandwidth, rate = measure_rates(options)
    recorded = {name: getattr(options, name) for name in RECORDED_OPTIONS}
    if options.device == "gpu":
        recorded["tf32"] = TF32
    return {
        "benchmark": "models",
        "device": interleaved.describe_cpu(),
        "command": format_command("benchmarks.models", arguments),
        "commit": describe_commit(),
        "options": recorded,
        "versions": {},
        "bandwidth": bandwidth,
        "rate": rate,
        "rows": [],
    }
