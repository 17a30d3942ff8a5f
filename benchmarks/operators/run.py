"""How fast the operators are, pass by pass, beside lax and PyTorch, and how fast they could be.

    python -m benchmarks.operators [--peers lax,torch] [--json FILE] [--plot FILE.png]
    python -m benchmarks.operators --device gpu --peers lax,torch [--dtypes float32,bfloat16]

PyTorch (channels_last) needs the extra `peers`. `--jax-python` runs all of jax under another
environment's Python. `--options` compiles ours with `kernels.jit`, too. `--algorithms direct,gemm`
compares algorithms of dense convolution with each other instead (winograd: `--only 3x3,`).

On a GPU (NVIDIA), ours is there twice: by default and with implementation="triton"; so is PyTorch,
eager and compiled. TF32 is left as both frameworks have it by default. Times are the device's own,
see `benchmarks.harness.device_time`; the wall's are in the JSON.

The limit of a pass is the larger of its bytes over the bandwidth of a copy and its operations over
the rate of a float32 matrix product (on a GPU without TF32), both measured in the same run; what
stays in a cache can beat it.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness import alternate
from benchmarks.operators import summary as operators_report
from benchmarks.operators import workers
from benchmarks.operators.cases import COPY, DEVICES, PRODUCT, job

ROOT = Path(__file__).parent.parent.parent


def candidates(options: argparse.Namespace) -> dict[str, list[str]]:
    """Name → command of each process."""
    gpu = DEVICES[options.device].gpu
    own = options.algorithms.split(",") if options.algorithms else ["ours"]
    names = [name + with_ for with_ in ("", ", options")[: 1 + options.options] for name in own]
    if gpu:
        names.insert(0, "triton")
    if not options.algorithms:
        names += [peer for peer in options.peers.split(",") if peer]
    if gpu and "torch" in names:
        names.append("torch compiled")
    place = ["--device", options.device, "--clock", options.clock]
    return {
        name: [
            sys.executable if name.startswith("torch") else options.jax_python,
            *("-m", "benchmarks.operators", "--worker", name, *place),
        ]
        for name in names
    }


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each pass of each case; the first one tells of the device and its rates."""
    device = DEVICES[options.device]
    gpu = device.gpu
    chosen = [
        case._replace(dtype=dtype)
        for dtype in options.dtypes.split(",")
        for case in device.cases
        if not options.algorithms or case.op == "conv"
    ]
    passes = [
        (case, pass_)
        for case in chosen
        if options.only in f"{case.op} {case}"
        for pass_ in case.passes
    ]
    if not passes:
        raise SystemExit(f"no case's name contains {options.only!r}")
    jobs = [COPY, PRODUCT, *(job(*each) for each in passes)]
    turns = alternate.in_turn(candidates(options), options.rounds, jobs, device.longest)
    copy, product = (_seconds(next(turns), gpu, strict=True) for _ in (COPY, PRODUCT))
    first = next(iter(copy))
    # On a GPU the best that any of them reaches. On a CPU only the first is asked.
    fastest = [
        min(t["median"] for t in (rate.values() if gpu else [rate[first]]))
        for rate in (copy, product)
    ]
    bandwidth, rate = 8 * device.copied / fastest[0], 2 * device.multiplied**3 / fastest[1]
    name = copy[first]["versions"].get("device", alternate.device())
    yield {"device": name, "bandwidth": bandwidth, "rate": rate}
    for (case, pass_), told in zip(passes, turns, strict=True):
        moved, operations = case.cost(pass_)
        row = {
            "op": case.op,
            "case": str(case),
            "pass": pass_,
            "limit": max(moved / bandwidth, operations / rate),
            "seconds": _seconds(told, gpu, strict=not gpu),
        }
        if gpu:
            row |= {
                "dtype": case.dtype,
                "batch": case.batch,
                "target": case.target(pass_, row["limit"]),
                "refusals": told.refusals,
            }
            row["missed"] = operators_report.missed(row)
        yield row


def _seconds(turns: alternate.Turns, gpu: bool, strict: bool) -> dict[str, dict[str, Any]]:
    """Each candidate's timing of a job, on a GPU with the wall's; strict allows no refusal."""
    for name, reason in turns.refusals.items() if strict else ():
        raise SystemExit(f"the candidate {name!r} failed: {reason}")
    if not gpu:
        return {
            name: alternate.timing(seconds, turns.versions[name])._asdict()
            for name, seconds in turns.answers.items()
        }
    out = {}
    for name, answers in turns.answers.items():
        device, wall = zip(*answers, strict=True)
        timing = alternate.timing(device, turns.versions[name])
        out[name] = {**timing._asdict(), "wall": statistics.median(wall)}
    return out


def main() -> None:
    """Measures, prints a table, and writes JSON and a plot where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--device", choices=DEVICES, default="cpu", help="rehearsal: as gpu, but without one"
    )
    parser.add_argument("--peers", default="lax", help="of lax and torch, joined by a comma")
    parser.add_argument("--options", action="store_true", help="ours with compiler options, too")
    parser.add_argument("--algorithms", help="compare these instead, joined by a comma")
    parser.add_argument("--dtypes", default="float32", help="on a GPU also bfloat16, after a comma")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--jax-python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument(
        "--clock", choices=("profiler", "wall"), default="profiler", help="on a GPU"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return workers.work(options.worker, options.device, options.clock)
    gpu = DEVICES[options.device].gpu
    if gpu and (options.algorithms or options.options):
        parser.error("--algorithms and --options are for a CPU: a GPU knows none")
    if set(options.dtypes.split(",")) - {"float32", *["bfloat16"] * gpu}:
        parser.error(f"--dtypes: no {options.dtypes!r} on {options.device}")
    os.chdir(ROOT)
    measured = measure(options)
    record: dict[str, Any] = next(measured)
    unit = "µs of the device's own time" if gpu else "ms, ± half the interquartile range"
    print(
        f"{record['device']}; copy {record['bandwidth'] / 1e9:.1f} GB/s, "
        f"matrix product {record['rate'] / 1e9:.0f} GFLOP/s; {unit}"
    )
    names = list(candidates(options))
    print(operators_report.heading(names, gpu))
    command = "python -m benchmarks.operators " + " ".join(_repeatable(sys.argv[1:]))
    rows: list[dict[str, Any]] = []
    for row in measured:
        rows.append(row)
        print(operators_report.show(row, names), flush=True)
        if options.json:  # after each row: a long run may be cut off
            told = {"device": record["device"], "command": command, **record}
            told |= {"rows": rows, "summary": operators_report.summary(rows)}
            options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    for line in operators_report.summary(rows):
        print(operators_report.tell(line))
    for words in operators_report.aims(rows) if gpu else ():
        print(words)
    if options.plot:
        operators_report.plot(rows, options.plot)
    return None


def _repeatable(arguments: list[str]) -> list[str]:
    """The arguments without this machine's paths."""
    return [a if os.sep not in a else Path(a).name for a in arguments]


if __name__ == "__main__":
    main()
