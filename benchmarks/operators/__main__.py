"""Times the operators, pass by pass, beside lax and PyTorch.

    python -m benchmarks.operators [--peers lax,torch] [--json FILE] [--plot FILE.png]
    python -m benchmarks.operators --device gpu --peers lax,torch [--dtypes float32,bfloat16]

PyTorch (channels_last) needs the extra `peers`. `--jax-python` runs jax under another environment's
Python. `--options` times ours also as compiled by `kernels.jit`. `--algorithms direct,gemm` instead
compares algorithms of dense convolution with each other (winograd: with `--only 3x3,`).

On an NVIDIA GPU, ours is timed by default and with implementation="triton", and PyTorch eager and
compiled. TF32 is used where a framework uses it by default. Times are the device's own (see
`benchmarks.harness.device_time`); wall times are in the JSON.

The limit of a pass is the longer of two times: its bytes over the bandwidth of a copy, and its
operations over the rate of a float32 matrix product (without TF32), both measured in the same run.
Data that stays in a cache can beat it.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.recording import ROOT
from benchmarks.operators import run, workers
from benchmarks.operators.cases import DEVICES


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.operators",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--device", choices=DEVICES, default="cpu", help="rehearsal: as gpu, but without one"
    )
    parser.add_argument("--peers", default="lax", help="lax, torch, or both with a comma between")
    parser.add_argument("--options", action="store_true", help="ours with compiler options, too")
    parser.add_argument("--algorithms", help="compare these instead, with commas between")
    parser.add_argument("--dtypes", default="float32", help="on a GPU also bfloat16, after a comma")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--jax-python", default=sys.executable, help="another Python to run jax")
    parser.add_argument("--rounds", type=int, default=11, help="measurements of each case")
    parser.add_argument(
        "--clock", choices=("profiler", "wall"), default="profiler", help="on a GPU"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--plot", type=Path, help="write a plot to this file")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    gpu = DEVICES[options.device].gpu
    if gpu and (options.algorithms or options.options):
        parser.error("--algorithms and --options are for a CPU alone, got --device gpu")
    if set(options.dtypes.split(",")) - {"float32", *["bfloat16"] * gpu}:
        parser.error(f"--dtypes: no {options.dtypes!r} on {options.device}")
    return options


def main() -> None:
    """Runs the benchmark, or one of its candidates."""
    options = parse_arguments()
    if options.worker:
        workers.run_candidate(options.worker, options.device, options.clock)
        return
    os.chdir(ROOT)
    run.run(options, sys.argv[1:])


if __name__ == "__main__":
    main()
