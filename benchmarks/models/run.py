"""Times whole models side by side: ours, flax.linen with lax written plainly, and PyTorch.

    python -m benchmarks.models [--models 'mobilenet*,ResNet50' | --layers] [--batches 1,8]
        [--peers flax,torch,torch-compiled,plain-jit,kept,torch-kept]
        [--jax-python PATH] [--json FILE] [--device cpu|gpu|rehearsal]

Every row has processes of its own, which take turns. Compile time is that of tracing and compiling
without a cache; peak memory is what a process holds at most in a round, less what it held before
the model was made. A training step is SGD with momentum 0.9 at a rate of 1e-3. In bfloat16 the
parameters stay float32 (PyTorch: by autocast). The limit is `model_cases.limit` by
the rates measured in the same run. "Memory kept" is a process that began with `zoo.keep_memory()`.
"""

import argparse
import fnmatch
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import alternate
from benchmarks.models import cases as model_cases
from benchmarks.models import workers as model_workers
from benchmarks.models.cases import LAYER_PASSES, PASSES, Case
from benchmarks.models.layers import LAYERS
from benchmarks.operators.cases import COPY, DEVICES, PRODUCT
from benchmarks.report import targets
from benchmarks.report.records import Record

ROOT = Path(__file__).parent.parent.parent
# The names of the command line, and those of the tables.
PEERS = {
    "flax": "flax",
    "torch": "torch",
    "torch-compiled": "torch compiled",
    "plain-jit": "ours, plain jit",
    "kept": f"ours{model_workers.KEPT}",
    "torch-kept": f"torch{model_workers.KEPT}",
}


def candidates(options: argparse.Namespace) -> dict[str, list[str]]:
    """Name → command of each process."""
    return {
        name: [
            sys.executable if name.startswith("torch") else options.jax_python,
            *("-m", "benchmarks.models", "--worker", name, "--device", options.device),
        ]
        for name in ["ours", *options.peers]
    }


def chosen(options: argparse.Namespace) -> list[Case]:
    """The cases, model by model or layer by layer."""
    import zoo
    from zoo.models.base import MODELS

    if options.layers:
        names = fnmatch.filter(LAYERS, options.layers)
        sizes = {name: LAYERS[name].shape[0] for name in names}
    else:
        names = [name for each in options.models.split(",") for name in zoo.list_models(each)]
        sizes = {name: options.size or MODELS[name].input_size for name in names}
    if not sizes:
        told = options.layers or options.models
        raise SystemExit(f"no {'layer' if options.layers else 'model'}'s name is like {told!r}")
    return [
        Case(name, pass_, batch, size, dtype)
        for name, size in sizes.items()
        for dtype in options.dtypes
        for batch in options.batches
        for pass_ in (LAYER_PASSES if options.layers else options.passes)
    ]


def _positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.strip().isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return int(text)


def _batches(text: str) -> list[int]:
    return [_positive(each) for each in text.split(",")]


def _peers(text: str) -> list[str]:
    """The candidates' names of peers, which may be none."""
    for each in (names := [name for name in text.split(",") if name]):
        if each not in PEERS:
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(PEERS)}; got {each!r}")
    return [PEERS[name] for name in names]


def _dtypes(text: str) -> list[str]:
    for each in (names := text.split(",")):
        if each not in ("float32", "bfloat16"):
            raise argparse.ArgumentTypeError(f"expected float32 or bfloat16, got {each!r}")
    return names


def rates(options: argparse.Namespace) -> tuple[float, float]:
    """(bytes a second of a copy, operations a second of a float32 matrix product), by jax."""
    device = DEVICES[options.device]
    place = ["--device", options.device, "--clock", "wall"]
    command = [options.jax_python, "-m", "benchmarks.operators", "--worker", "lax", *place]
    medians = []
    for turns in alternate.in_turn({"lax": command}, 7, [COPY, PRODUCT], device.longest):
        if turns.refusals:
            raise SystemExit(f"the rates cannot be measured: {turns.refusals['lax']}")
        told = [each[0] if device.gpu else each for each in turns.answers["lax"]]
        medians.append(alternate.timing(told, {}).median)
    return 8 * device.copied / medians[0], 2 * device.multiplied**3 / medians[1]


def measure(case: Case, options: argparse.Namespace, rate: float, bandwidth: float) -> Any:
    """(row, versions by candidate) of a case."""
    costs = model_cases.costs(case)
    (turns,) = alternate.in_turn(candidates(options), options.rounds, [case.job], options.longest)
    timings = {name: alternate.timing(each, {}) for name, each in turns.answers.items()}
    row = {
        **dict(zip(("model", "pass", "batch", "size", "dtype"), case, strict=True)),
        "limit": model_cases.limit(costs, rate, bandwidth),
        "operations": sum(operations for operations, _ in costs),
        "bytes": sum(moved for _, moved in costs),
        "seconds": {
            name: {"median": t.median, "lower": t.lower, "upper": t.upper}
            for name, t in timings.items()
        },
        "refusals": turns.refusals,
    }
    for figure in ("compile", "peak"):
        row[figure] = {n: c[figure] for n, c in turns.costs.items() if figure in c}
    return row, turns.versions


def show(row: dict[str, Any], names: list[str]) -> str:
    """A row as a line."""
    seconds = row["seconds"]
    cells = []
    for name in names:
        t = seconds.get(name)
        cells.append(
            f"{1e3 * t['median']:10.2f} ±{500 * (t['upper'] - t['lower']):6.2f}"
            if t
            else f"{'–':>18}"
        )
    own, peer = seconds.get("ours"), seconds.get("torch")
    ratio = f"{own['median'] / peer['median']:.2f}" if own and peer else "–"
    compiles = "/".join(f"{row['compile'][n]:.1f}" for n in names if n in row["compile"])
    peaks = "/".join(f"{row['peak'][n] / 2**20:.0f}" for n in names if n in row["peak"])
    title = f"{row['model']}, {row['pass']}, N{row['batch']}"
    return f"{title:42}{''.join(cells)}{ratio:>7}{compiles:>12}{peaks:>18}{1e3 * row['limit']:9.2f}"


def _options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", default=model_cases.MODELS)
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=PASSES)
    parser.add_argument(
        "--layers", nargs="?", const="*", help="in place of models: 'Conv*', or all"
    )
    parser.add_argument(
        "--batches", type=_batches, help="default: 8; of layers 1,16,64; on a GPU 1,64,256"
    )
    parser.add_argument("--dtypes", type=_dtypes, default=["float32"], help="or bfloat16, or both")
    parser.add_argument("--size", type=_positive, help="of the images; default: the model's own")
    parser.add_argument("--peers", type=_peers, default="flax,torch", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--jax-python", default=sys.executable)
    parser.add_argument("--rounds", type=_positive, default=11)
    parser.add_argument("--longest", type=float, default=30.0, help="seconds of a row's rounds")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.batches is None:
        few = [1, 16, 64] if options.layers else [8]
        options.batches = few if options.device != "gpu" else [1, 64, 256]
    return options


def main() -> None:
    """Measures, prints a table, and writes JSON where asked to."""
    options = _options()
    if options.worker:
        return model_workers.work(options.worker, options.device)
    os.chdir(ROOT)
    cases = chosen(options)
    record = _record(options)
    names = list(candidates(options))
    print(
        f"{record['device']}; copy {record['bandwidth'] / 1e9:.1f} GB/s, matrix product "
        f"{record['rate'] / 1e9:.0f} GFLOP/s; ms ± half the interquartile range"
    )
    heads = "".join(f"{name:>18}" for name in names)
    print(f"{'':42}{heads}  ratio   compile s           peak MiB    limit")
    for row in _measured(cases, options, record):
        print(show(row, names), flush=True)
        for name, reason in row["refusals"].items():
            print(f"    {name}: {reason}")
        if options.json:  # after each row: a long run may be cut off
            options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    told = Record(options.json or Path(), "models", record)
    for each in told.rows:
        for verdict in targets.verdicts(told, each):
            print(f"{each['model']}, {each['pass']}: {verdict.what} {verdict.words}")
    return None


def _measured(
    cases: Sequence[Case], options: argparse.Namespace, record: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    for case in cases:
        row, versions = measure(case, options, record["rate"], record["bandwidth"])
        record["versions"] |= versions
        record["rows"].append(row)
        yield row


def _record(options: argparse.Namespace) -> dict[str, Any]:
    """What the JSON holds beside the rows."""
    bandwidth, rate = rates(options)
    arguments = [a if os.sep not in a else Path(a).name for a in sys.argv[1:]]
    kept = (
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
    tf32 = "as both frameworks have it: jax yes; PyTorch in convolutions, not in products"
    describe = ["git", "describe", "--always", "--dirty"]
    try:
        told = subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        told = ""
    return {
        "benchmark": "models",
        "device": alternate.device(),
        "command": " ".join(["python -m benchmarks.models", *arguments]),
        "commit": told,
        "options": {name: getattr(options, name) for name in kept}
        | ({"tf32": tf32} if options.device == "gpu" else {}),
        "versions": {},
        "bandwidth": bandwidth,
        "rate": rate,
        "rows": [],
    }


if __name__ == "__main__":
    main()
