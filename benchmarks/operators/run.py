"""Times the cases of `benchmarks.operators` in all candidates, and writes what it measures."""

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.harness import interleaved
from benchmarks.harness.recording import format_command, write_json
from benchmarks.operators import summary
from benchmarks.operators.cases import COPY, DEVICES, PRODUCT, Case, encode_workload


def make_commands(options: argparse.Namespace) -> dict[str, list[str]]:
    """The command of each candidate, by its name."""
    gpu = DEVICES[options.device].gpu
    ours = options.algorithms.split(",") if options.algorithms else ["ours"]
    names = [
        f"{name}{suffix}" for suffix in ("", ", options")[: 1 + options.options] for name in ours
    ]
    if gpu:
        names.insert(0, "triton")
    if not options.algorithms:
        names += [peer for peer in options.peers.split(",") if peer]
    if gpu and "torch" in names:
        names.append("torch compiled")
    device = ["--device", options.device, "--clock", options.clock]
    return {
        name: [
            sys.executable if name.startswith("torch") else options.jax_python,
            *("-m", "benchmarks.operators", "--worker", name, *device),
        ]
        for name in names
    }


def select_passes(options: argparse.Namespace) -> list[tuple[Case, str]]:
    """The cases and passes that the options ask for.

    Raises:
      SystemExit: there are none.
    """
    cases = [
        case._replace(dtype=dtype)
        for dtype in options.dtypes.split(",")
        for case in DEVICES[options.device].cases
        if not options.algorithms or case.op == "conv"
    ]
    passes = [
        (case, pass_name)
        for case in cases
        if options.only in f"{case.op} {case}"
        for pass_name in case.passes
    ]
    if not passes:
        raise SystemExit(f"no case's name contains {options.only!r}")
    return passes


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields the device and its rates, and then a row for each pass of each case."""
    device = DEVICES[options.device]
    gpu = device.gpu
    passes = select_passes(options)
    workloads = [COPY, PRODUCT, *(encode_workload(*each) for each in passes)]
    measurements = interleaved.interleave(
        make_commands(options), options.rounds, workloads, device.longest
    )
    copy, product = (_summarize(next(measurements), gpu, strict=True) for _ in (COPY, PRODUCT))
    first = next(iter(copy))
    # On a GPU the best rate that any candidate reaches; on a CPU the first candidate's.
    fastest_copy, fastest_product = (
        min(timing["median"] for timing in (timings.values() if gpu else [timings[first]]))
        for timings in (copy, product)
    )
    bandwidth, rate = device.bandwidth(fastest_copy), device.rate(fastest_product)
    name = copy[first]["versions"].get("device", interleaved.describe_cpu())
    yield {"device": name, "bandwidth": bandwidth, "rate": rate}
    for (case, pass_name), measurement in zip(passes, measurements, strict=True):
        moved, operations = case.cost(pass_name)
        row: dict[str, Any] = {
            "op": case.op,
            "case": str(case),
            "pass": pass_name,
            "limit": max(moved / bandwidth, operations / rate),
            "seconds": _summarize(measurement, gpu, strict=not gpu),
        }
        if gpu:
            row |= {
                "dtype": case.dtype,
                "batch": case.batch,
                "target": case.target(pass_name, row["limit"]),
                "refusals": measurement.refusals,
            }
            row["missed"] = summary.missed_targets(row)
        yield row


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Measures, prints a table, and writes JSON and a plot if asked to."""
    gpu = DEVICES[options.device].gpu
    measured = measure(options)
    machine: dict[str, Any] = next(measured)
    unit = "µs of the device's own time" if gpu else "ms, ± half the interquartile range"
    print(
        f"{machine['device']}; copy {machine['bandwidth'] / 1e9:.1f} GB/s, "
        f"matrix product {machine['rate'] / 1e9:.0f} GFLOP/s; {unit}"
    )
    names = list(make_commands(options))
    print(summary.format_heading(names, gpu))
    command = format_command("benchmarks.operators", arguments)
    rows: list[dict[str, Any]] = []
    for row in measured:
        rows.append(row)
        print(summary.format_row(row, names), flush=True)
        record = {"device": machine["device"], "command": command, **machine}
        record |= {"rows": rows, "summary": summary.summarize(rows)}
        write_json(options.json, record)  # after each row: a long run may be cut off
    for line in summary.summarize(rows):
        print(summary.format_summary(line))
    for text in summary.describe_gpu_rows(rows) if gpu else ():
        print(text)
    if options.plot:
        summary.plot_rows(rows, options.plot)


def _summarize(
    measurement: interleaved.Measurement, gpu: bool, strict: bool
) -> dict[str, dict[str, Any]]:
    """Each candidate's timing, on a GPU with the wall's; `strict` ends the run at a refusal."""
    for name, reason in measurement.refusals.items() if strict else ():
        raise SystemExit(f"the candidate {name!r} failed: {reason}")
    if not gpu:
        return {
            name: interleaved.summarize(seconds, measurement.versions[name])._asdict()
            for name, seconds in measurement.rounds.items()
        }
    timings = {}
    for name, rounds in measurement.rounds.items():
        device_seconds, wall_seconds = zip(*rounds, strict=True)
        timing = interleaved.summarize(device_seconds, measurement.versions[name])
        timings[name] = {**timing._asdict(), "wall": statistics.median(wall_seconds)}
    return timings
