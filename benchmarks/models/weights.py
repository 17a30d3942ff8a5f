"""Times loading weights from the cache, and converting a large file of PyTorch's.

    python -m benchmarks.models.weights [--rounds 15] [--no-convert] [--json FILE.json]

Loading is timed in turn with reading the same bytes, with the operating system's page cache warm
and cold; the weights are random. Peak memory is all that a fresh process holds: Python, jax and
mapped files. The file to convert is made with PyTorch (the extra `peers`).
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness.recording import write_json

MODEL, WEIGHTS = "ResNet50", "IMAGENET1K_V2"

# Programs that run in processes of their own, so that only their memory is measured.
CONVERT_PROGRAM = """
import sys
from zoo.checkpoints.convert import convert
convert(sys.argv[1], sys.argv[2], sys.argv[3])
"""
LOAD_PROGRAM = """
import jax, zoo
variables = jax.block_until_ready(zoo.trained("ResNet50").variables)
"""
IDLE_PROGRAM = """
import jax, zoo
jax.device_put(1.0)
"""
# Prints the peak of memory, and the memory that is not mapped from files.
PRINT_MEMORY = """
fields = dict(line.split(":") for line in open("/proc/self/status") if ":" in line)
print(*[int(fields[name].split()[0]) * 1024 for name in ("VmHWM", "RssAnon")])
"""


def main() -> None:
    """Measures, prints the figures, and writes JSON if asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.models.weights",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=15, help="measurements")
    parser.add_argument("--no-convert", action="store_true", help="leave out the conversion")
    parser.add_argument("--device", default="", help="name of this machine in the file")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ZOO_CACHE"] = folder
        record = {
            "benchmark": "weights",
            "device": options.device,
            "command": "python -m benchmarks.models.weights",
            **measure_loading(Path(folder), options.rounds),
        }
        if not options.no_convert:
            record["convert"] = measure_converting(Path(folder))
    print(json.dumps(record, indent=1))
    write_json(options.json, record)


def measure_loading(cache: Path, rounds: int) -> dict[str, Any]:
    """Times `zoo.trained` from the cache, beside reading and beside Orbax."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    import zoo
    from zoo_pretrained import checkpoint

    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype),
        zoo.ResNet50().variable_shapes(),
    )
    folder = cache / "checkpoints" / f"{MODEL}-{WEIGHTS}"
    checkpoint.save(folder, variables, {"model": MODEL, "weights": WEIGHTS})
    files = [path for path in folder.rglob("*") if path.is_file()]

    def read() -> None:
        contents = [file.read_bytes() for file in files]  # all held at once
        del contents

    def read_and_hash() -> None:
        contents = [file.read_bytes() for file in files]
        for content in contents:
            hashlib.sha256(content).digest()

    def load_trained() -> None:
        jax.block_until_ready(zoo.trained(MODEL).variables)

    def load_with_orbax() -> None:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            args = ocp.args.Composite(variables=ocp.args.StandardRestore())
            jax.block_until_ready(jax.device_put(checkpointer.restore(folder, args=args).variables))

    loaders = {
        "read": read,
        "read and hash": read_and_hash,
        "zoo.trained": load_trained,
        "Orbax": load_with_orbax,
    }
    return {
        "versions": {"jax": jax.__version__, "python": sys.version.split()[0]},
        "model": MODEL,
        "bytes": sum(file.stat().st_size for file in files),
        "seconds_warm": _time_in_turn(loaders, rounds, lambda: None),
        "seconds_cold": _time_in_turn(loaders, rounds, lambda: _drop_from_page_cache(files)),
        "peak_bytes": {
            "idle": _measure_memory(IDLE_PROGRAM),
            "zoo.trained": _measure_memory(LOAD_PROGRAM),
        },
    }


def measure_converting(folder: Path) -> dict[str, Any]:
    """Measures peak memory and seconds of converting VGG-19 as torchvision publishes it."""
    import torch

    file = folder / "vgg19.pth"
    torch.save({name: torch.rand(shape) for name, shape in _vgg19_shapes()}, file)
    start = time.perf_counter()
    peak = _measure_memory(CONVERT_PROGRAM, str(file), "VGG19", str(folder / "VGG19"))
    size = file.stat().st_size
    return {
        "model": "VGG19",
        "file_bytes": size,
        "seconds": time.perf_counter() - start,
        "peak_bytes": peak,
        "peak_over_file": peak["all"] / size,
    }


def _vgg19_shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of torchvision's VGG-19, which numbers activations and pools as well."""
    number, in_channels = 0, 3
    for depth, channels in ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)):
        for _ in range(depth):
            yield f"features.{number}.weight", (channels, in_channels, 3, 3)
            yield f"features.{number}.bias", (channels,)
            number, in_channels = number + 2, channels
        number += 1
    for layer, (rows, columns) in ((0, (25088, 4096)), (3, (4096, 4096)), (6, (4096, 1000))):
        yield f"classifier.{layer}.weight", (columns, rows)
        yield f"classifier.{layer}.bias", (columns,)


def _time_in_turn(
    functions: dict[str, Callable[[], None]], rounds: int, setup: Callable[[], None]
) -> dict[str, dict[str, float]]:
    """Medians and quartiles of functions that are called in turn, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds + 1):
        for name, function in functions.items():
            setup()
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    timings = {}
    for name, values in seconds.items():
        lower, median, upper = statistics.quantiles(values[1:], n=4)
        timings[name] = {"median": median, "lower": lower, "upper": upper}
    return timings


def _drop_from_page_cache(files: list[Path]) -> None:
    """Makes the operating system drop files from its page cache."""
    for file in files:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _measure_memory(program: str, *arguments: str) -> dict[str, int]:
    """Runs a program: its peak of memory ("all"), and at its end what is not mapped ("own")."""
    done = subprocess.run(
        [sys.executable, "-c", program + PRINT_MEMORY, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    peak, unmapped = done.stdout.split()[-2:]
    return {"all": int(peak), "own": int(unmapped)}


if __name__ == "__main__":
    main()
