"""Times whole processes: from the start to the first logits, with the weights in a file.

    python -m benchmarks.models.starts CANDIDATE FOLDER MODEL BATCH SIZE

is such a process; `benchmarks.models.latency --starts` starts several of each candidate. It imports
no more than the candidate needs.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.models import deployed

# "ours, compiled" with the user's cache (`ZOO_CACHE`) of the process before; elsewhere it is empty.
CACHED = "ours, compiled, cached"
STARTED = (deployed.COMPILED, CACHED, deployed.ONNXRUNTIME)
READY = "ready"


def time_starts(
    pythons: Mapping[str, str], model: str, batch: int, size: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each candidate's processes, which take turns.

    Args:
      pythons: the Python of each candidate, some of `STARTED`.
      model: the name of a model of the zoo.
      batch: the number of images.
      size: their height and width in pixels.
      rounds: processes of each candidate.
    """
    seconds: dict[str, list[float]] = {name: [] for name in pythons}
    with tempfile.TemporaryDirectory() as folder:
        _save_weights(Path(folder), model, size)
        for number in range(rounds + 1):
            for name, python in pythons.items():
                cache = Path(folder) / "caches" / (name if name == CACHED else f"{name} {number}")
                command = [python, "-m", __name__, name, folder, model, str(batch), str(size)]
                elapsed = _time_process(command, cache)
                if number:  # the first fills caches, also the system's
                    seconds[name].append(elapsed)
    return seconds


def _save_weights(folder: Path, model: str, size: int) -> None:
    """Writes a checkpoint "weights" and a fused "model.onnx"."""
    import zoo
    from benchmarks.models.random_weights import make_trained

    trained = make_trained(zoo.create(model), size)
    trained.save(folder / "weights")
    zoo.to_onnx(zoo.fuse(trained), folder / "model.onnx", size=size)


def _time_process(command: list[str], cache: Path) -> float:
    """Seconds until a process says that it has the logits."""
    cache.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "ZOO_CACHE": str(cache)}
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        ready = any(line.rstrip() == READY for line in lines)
        seconds = time.perf_counter() - start
    if not ready or process.returncode:
        raise SystemExit(f"{' '.join(command)} stopped with exit code {process.returncode}")
    return seconds


def main() -> None:
    """Computes logits of one batch, and says so."""
    name, folder, model, batch, size = sys.argv[1:]
    images = np.ones((int(batch), int(size), int(size), 3), np.float32)
    if name == deployed.ONNXRUNTIME:
        call = deployed.load_onnx(Path(folder) / "model.onnx")
    else:
        import zoo

        trained = zoo.trained(model, weights=Path(folder) / "weights")
        call = trained.compile(batch_sizes=(int(batch),), size=int(size))
    call(deployed.arrange_images(name, images))
    print(READY, flush=True)


if __name__ == "__main__":
    main()
