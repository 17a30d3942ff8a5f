"""How the time grows with the batch, the size of the images and the number of devices.

    python -m benchmarks.models.scaling [--models MobileNetV2] [--peers torch] [--json FILE]

Inference is fused (PyTorch's is the original, unfused), a training step is SGD with momentum. The
batch grows at the first `--size`, the size at the first `--batch`; on several devices the same
batch of images, `--batch`, is divided among them by its placement, and the program is a plain
`zoo.jit`.

On a CPU the devices are simulated: they share its cores, so no speed-up is to be expected, and a
constant time says that dividing the work costs nothing. `--device gpu` takes real ones.

The exponent is the slope of log(seconds) over log(value) by least squares: 1 is proportional, and a
pass of a convolutional network grows with the size at an exponent of about 2. The marginal cost is
the slope of seconds over images.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import alternate
from benchmarks.models import scaling_worker
from benchmarks.models.scaling_worker import PASSES, Job
from benchmarks.report import tables

ROOT = Path(__file__).parent.parent.parent
AXES = ("batch", "size", "devices")


def fitted(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with each candidate's exponent, and over batches its marginal seconds an image.

    A candidate that was timed at one value only has neither.
    """
    out: list[dict[str, Any]] = [{**row, "exponent": {}, "marginal": {}} for row in rows]
    for axis, own in tables.by_axis(out).items():
        for (_, _, name), line in tables.lines(own).items():
            if len(line) < 2:
                continue
            exponent = tables.exponent(line, name)
            values = [row["value"] for row in line]
            seconds = [row["seconds"][name]["median"] for row in line]
            for row in line:
                row["exponent"][name] = exponent
                if axis == "batch":
                    row["marginal"][name] = statistics.linear_regression(values, seconds).slope
    return out


def jobs(options: argparse.Namespace, axis: str) -> list[Job]:
    """Every model's passes at each value of an axis."""
    batch, size = options.batch, options.size
    at: dict[str, list[tuple[int, ...]]] = {
        "batch": [(each, size) for each in options.batches],
        "size": [(batch, each) for each in options.sizes],
        "devices": [(batch, size, each) for each in options.devices],
    }
    return [Job(model, p, *each) for model in options.models for p in PASSES for each in at[axis]]


def measure(options: argparse.Namespace) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each row, and the versions of the candidates."""
    for axis in AXES:
        peers = [] if axis == "devices" else [peer for peer in options.peers.split(",") if peer]
        count = max(options.devices, default=1) if axis == "devices" else 1
        own = ["-m", "benchmarks.models.scaling", "--device", options.device, "--count", str(count)]
        commands = {
            name: [options.jax_python if name == "ours" else sys.executable, *own, "--worker", name]
            for name in ("ours", *peers)
        }
        todo = jobs(options, axis)
        if not todo:
            continue
        turns = alternate.in_turn(commands, options.rounds, [str(j) for j in todo], options.longest)
        for job, told in zip(todo, turns, strict=True):
            row = {
                "model": job.model,
                "pass": job.name,
                "axis": axis,
                "value": getattr(job, axis),
                "batch": job.batch,
                "size": job.size,
                "devices": job.devices,
                "dtype": "float32",
                "seconds": {
                    name: dict(zip(("median", "lower", "upper"), timing[:3], strict=True))
                    for name, seconds in told.answers.items()
                    for timing in [alternate.timing(seconds, told.versions[name])]
                },
                "refusals": told.refusals,
            }
            yield row, told.versions


def show(row: Mapping[str, Any]) -> str:
    """A row as a line of the table."""
    cells = [
        f"{name} {1e3 * t['median']:9.2f} ± {5e2 * (t['upper'] - t['lower']):.2f}"
        for name, t in row["seconds"].items()
    ]
    cells += [f"{name} –: {reason}" for name, reason in row["refusals"].items()]
    place = f"{row['model']}, {row['pass']}"
    return f"{place:36}{row['axis']:8}{row['value']:5}  {'   '.join(cells)}"


def tell(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The exponents and marginal costs, a line for each line of growth."""
    lines = {(row["model"], row["pass"], row["axis"]): row for row in rows}
    for (model, pass_, axis), row in lines.items():
        for name, exponent in row["exponent"].items():
            each = row["marginal"].get(name)
            cost = "" if each is None else f", {1e3 * each:.2f} ms a further image"
            yield f"{model}, {pass_}, {name}: time grows as {axis}^{exponent:.2f}{cost}"


def _numbers(text: str) -> list[int]:
    numbers = [int(each) for each in text.split(",") if each]
    if any(number < 1 for number in numbers):
        raise ValueError
    return numbers


def _options(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=lambda t: t.split(","), default=["MobileNetV2"])
    parser.add_argument("--batches", type=_numbers, default=[1, 2, 4, 8, 16])
    parser.add_argument("--sizes", type=_numbers, default=[96, 128, 160, 192, 224])
    parser.add_argument("--devices", type=_numbers, default=[1, 2, 4, 8])
    parser.add_argument("--batch", type=int, default=8, help="where something else grows")
    parser.add_argument("--size", type=int, default=128, help="where something else grows")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--peers", default="", help="torch, or nothing")
    parser.add_argument("--jax-python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--longest", type=float, default=12.0, help="seconds of a job's rounds")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", choices=("ours", "torch"), help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if set(options.peers.split(",")) - {"", "torch"}:
        parser.error(f"--peers: expected torch or nothing, got {options.peers!r}")
    if options.batch < 1 or options.size < 1:
        parser.error("--batch and --size must be at least 1")
    if uneven := [d for d in options.devices if options.batch % d]:
        parser.error(f"--devices: a batch of {options.batch} cannot be divided by {uneven[0]}")
    return options


def main() -> None:
    """Measures, prints a table, and writes JSON where asked to."""
    options = _options()
    gpu = options.device == "gpu"
    if options.worker == "torch":
        return scaling_worker.torch(gpu)
    if options.worker:
        return scaling_worker.ours(gpu, options.count)
    from zoo.models.base import UnknownModelError, find_model

    try:
        options.models = [find_model(model).name for model in options.models]
    except UnknownModelError as error:
        raise SystemExit(f"--models: {error}") from error
    os.chdir(ROOT)
    words = [word if os.sep not in word else Path(word).name for word in sys.argv[1:]]
    record: dict[str, Any] = {
        "benchmark": "scaling",
        "device": alternate.device(),
        "command": " ".join(["python -m benchmarks.models.scaling", *words]),
        "commit": _commit(),
        "options": {n: v for n, v in vars(options).items() if n in _TOLD},
        "versions": {},
    }
    rows: list[dict[str, Any]] = []
    print(f"{record['device']}; ms, ± half the interquartile range")
    for row, versions in measure(options):
        rows.append(row)
        print(show(row), flush=True)
        record["versions"] |= versions
        if gpu:
            record["device"] = versions["ours"]["device"]
        if options.json:  # after each row: a long run may be cut off
            told = {**record, "rows": fitted(rows)}
            options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    for line in tell(fitted(rows)):
        print(line)
    return None


_TOLD = ("batch", "size", "device", "peers", "rounds", "longest")


def _commit() -> str:
    """What git calls the checkout, "" without git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()


if __name__ == "__main__":
    main()
