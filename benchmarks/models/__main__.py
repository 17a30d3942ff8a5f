"""Times whole models, or single layers, beside flax.linen, PyTorch and onnxruntime.

    python -m benchmarks.models [--models 'mobilenet*,ResNet50' | --layers] [--batches 1,8]
        [--peers flax,torch,torch-compiled,onnxruntime,compiled,plain-jit,keep-memory,
            torch-keep-memory]
        [--jax-python PATH] [--json FILE] [--device cpu|gpu|rehearsal]

Each row has processes of its own, which take turns. Compile time is that of tracing and compiling
without a cache; peak memory is the most that a process holds in a round, less what it held before
the model was made. A training step is SGD with momentum 0.9 at a rate of 1e-3. In bfloat16 the
parameters stay float32 (PyTorch: by autocast). The limit is the least time that the rates measured
in the same run allow. "keep-memory" and "torch-keep-memory" are processes that give no memory back
to the system (`zoo.keep_memory()`). "compiled" (`Trained.compile`) and "onnxruntime" run inference
on a CPU, from and to NumPy's arrays, with the weights of `random_weights`.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.recording import ROOT
from benchmarks.models import deployed, run, workers
from benchmarks.models.cases import DEFAULT_MODELS, PASSES
from benchmarks.operators.cases import DEVICES

# Names on the command line, and of candidates in tables.
PEERS = {
    "flax": "flax",
    "torch": "torch",
    "torch-compiled": "torch compiled",
    "onnxruntime": deployed.ONNXRUNTIME,
    "compiled": deployed.COMPILED,
    "plain-jit": "ours, plain jit",
    "keep-memory": f"ours{workers.KEEP_MEMORY}",
    "torch-keep-memory": f"torch{workers.KEEP_MEMORY}",
}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.models",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--models", default=DEFAULT_MODELS, help="names or patterns, with commas between"
    )
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=PASSES)
    parser.add_argument(
        "--layers", nargs="?", const="*", help="instead of models: 'Conv*', or all without a value"
    )
    parser.add_argument(
        "--batches", type=_parse_batches, help="default: 8; layers 1,16,64; on a GPU 1,64,256"
    )
    parser.add_argument(
        "--dtypes", type=_parse_dtypes, default=["float32"], help="float32, bfloat16, or both"
    )
    parser.add_argument(
        "--size", type=_parse_positive, help="of the images; default: the model's own"
    )
    parser.add_argument(
        "--peers", type=_parse_peers, default="flax,torch", help=f"some of {', '.join(PEERS)}"
    )
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--jax-python", default=sys.executable, help="another Python to run jax")
    parser.add_argument(
        "--rounds", type=_parse_positive, default=11, help="measurements of each row"
    )
    parser.add_argument(
        "--longest", type=float, default=30.0, help="seconds that the rounds of a row may take"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.batches is None:
        cpu_batches = [1, 16, 64] if options.layers else [8]
        options.batches = [1, 64, 256] if options.device == "gpu" else cpu_batches
    return options


def _parse_positive(text: str) -> int:
    if not text.strip().isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return int(text)


def _parse_batches(text: str) -> list[int]:
    return [_parse_positive(each) for each in text.split(",")]


def _parse_peers(text: str) -> list[str]:
    """The peers' names as candidates; there may be none."""
    for name in (names := [name for name in text.split(",") if name]):
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(PEERS)}; got {name!r}")
    return [PEERS[name] for name in names]


def _parse_dtypes(text: str) -> list[str]:
    for name in (names := text.split(",")):
        if name not in ("float32", "bfloat16"):
            raise argparse.ArgumentTypeError(f"expected float32 or bfloat16, got {name!r}")
    return names


def main() -> None:
    """Runs the benchmark, or one of its candidates."""
    options = parse_arguments()
    if options.worker:
        workers.run_candidate(options.worker, options.device)
        return
    os.chdir(ROOT)
    run.run(options, sys.argv[1:])


if __name__ == "__main__":
    main()
