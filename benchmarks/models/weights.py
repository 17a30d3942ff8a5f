"""What weights cost: loading from the cache, and converting a large file of PyTorch's.

    python -m benchmarks.models.weights [--rounds 15] [--no-convert] [--out FILE.json]

Loading is timed beside reading the same bytes, in turn, with the operating system's page cache warm
and cold; the weights are random. Peak memory is that of a fresh process, all of it: Python, jax and
what is mapped. The file to convert is made with PyTorch (the extra `peers`).
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

MODEL, WEIGHTS = "ResNet50", "IMAGENET1K_V2"

# In a process of its own: its peak is not ours.
CONVERTING = """
import sys
from zoo.checkpoints.convert import convert
convert(sys.argv[1], sys.argv[2], sys.argv[3])
"""
LOADING = """
import jax, zoo
kept = jax.block_until_ready(zoo.trained("ResNet50").variables)
"""
IDLE = """
import jax, zoo
jax.device_put(1.0)
"""
STATUS = """
fields = dict(line.split(":") for line in open("/proc/self/status") if ":" in line)
print(*[int(fields[name].split()[0]) * 1024 for name in ("VmHWM", "RssAnon")])
"""


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-convert", action="store_true", help="leave out the conversion")
    parser.add_argument("--device", default="", help="what the result calls this machine")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as workshop:
        os.environ["ZOO_CACHE"] = workshop
        found = {"device": options.device, "command": "python -m benchmarks.models.weights"}
        found |= loading(Path(workshop), options.rounds)
        if not options.no_convert:
            found["convert"] = converting(Path(workshop))
    print(json.dumps(found, indent=1))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def loading(workshop: Path, rounds: int) -> dict[str, Any]:
    """Times `zoo.trained` from the cache, beside reading and beside Orbax."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    import zoo
    from zoo_pretrained import checkpoint as store

    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype),
        zoo.ResNet50().variable_shapes(),
    )
    folder = workshop / "checkpoints" / f"{MODEL}-{WEIGHTS}"
    store.save(folder, variables, {"model": MODEL, "weights": WEIGHTS})
    files = [path for path in folder.rglob("*") if path.is_file()]

    def read() -> None:
        kept = [file.read_bytes() for file in files]
        del kept

    def read_and_hash() -> None:
        kept = [file.read_bytes() for file in files]
        for content in kept:
            hashlib.sha256(content).digest()

    def trained() -> None:
        jax.block_until_ready(zoo.trained(MODEL).variables)

    def orbax() -> None:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            args = ocp.args.Composite(variables=ocp.args.StandardRestore())
            jax.block_until_ready(jax.device_put(checkpointer.restore(folder, args=args).variables))

    jobs = {"read": read, "read and hash": read_and_hash, "zoo.trained": trained, "Orbax": orbax}
    return {
        "versions": {"jax": jax.__version__, "python": sys.version.split()[0]},
        "model": MODEL,
        "bytes": sum(file.stat().st_size for file in files),
        "seconds_warm": _timed(jobs, rounds, lambda: None),
        "seconds_cold": _timed(jobs, rounds, lambda: _forget(files)),
        "peak_bytes": {"idle": _peak(IDLE), "zoo.trained": _peak(LOADING)},
    }


def converting(workshop: Path) -> dict[str, Any]:
    """The peak memory and the time of converting VGG-19 as torchvision publishes it."""
    import torch

    file = workshop / "vgg19.pth"
    torch.save({name: torch.rand(shape) for name, shape in _vgg19()}, file)
    start = time.perf_counter()
    peak = _peak(CONVERTING, str(file), "VGG19", str(workshop / "VGG19"))
    size = file.stat().st_size
    return {
        "model": "VGG19",
        "file_bytes": size,
        "seconds": time.perf_counter() - start,
        "peak_bytes": peak,
        "peak_over_file": peak["all"] / size,
    }


def _vgg19() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of torchvision's VGG-19, whose list counts activations and pools too."""
    number, inside = 0, 3
    for depth, channels in ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)):
        for _ in range(depth):
            yield f"features.{number}.weight", (channels, inside, 3, 3)
            yield f"features.{number}.bias", (channels,)
            number, inside = number + 2, channels
        number += 1
    for layer, (rows, columns) in ((0, (25088, 4096)), (3, (4096, 4096)), (6, (4096, 1000))):
        yield f"classifier.{layer}.weight", (columns, rows)
        yield f"classifier.{layer}.bias", (columns,)


def _timed(
    jobs: dict[str, Callable[[], None]], rounds: int, before: Callable[[], None]
) -> dict[str, dict[str, float]]:
    """Medians and quartiles of jobs that are run in turn, after one round to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds + 1):
        for name, job in jobs.items():
            before()
            start = time.perf_counter()
            job()
            taken[name].append(time.perf_counter() - start)
    made = {}
    for name, seconds in taken.items():
        lower, median, upper = statistics.quantiles(seconds[1:], n=4)
        made[name] = {"median": median, "lower": lower, "upper": upper}
    return made


def _forget(files: list[Path]) -> None:
    """Has the operating system drop files from its page cache."""
    for file in files:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _peak(code: str, *arguments: str) -> dict[str, int]:
    """The most memory that a fresh process held, and what of its own it held at its end."""
    done = subprocess.run(
        [sys.executable, "-c", code + STATUS, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    most, own = done.stdout.split()[-2:]
    return {"all": int(most), "own": int(own)}


if __name__ == "__main__":
    main()
