"""Times models that were exported to ONNX and imported again, beside the models and onnxruntime.

    python -m benchmarks.models.imported [--models ResNet50,MobileNetV2] [--rounds 7] [--training]

Needs the extra `peers`. All three run the fused model at 224x224 in one process, in turn, with as
many threads as there are cores, and a pause before each turn until the threads before are asleep.
With --training it is the gradients of plain models at 128x128, without onnxruntime.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

import zoo
from zoo.checkpoints.load import as_trained
from zoo.onnx import from_onnx
from zoo.onnx.export import make_proto

ZOO, IMPORTED, ONNXRUNTIME = "ours", "imported", "onnxruntime"
SIZE, TRAINING_SIZE, BATCHES, PAUSE = 224, 128, (1, 8), 0.05


def make_candidates(name: str, batch: int) -> Mapping[str, Callable[[], Any]]:
    """What is timed, for a model with random weights and a batch of random images."""
    import onnxruntime

    model, random = zoo.create(name), np.random.default_rng(0)
    images = random.normal(size=(batch, SIZE, SIZE, 3)).astype(np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), images[:1])
    fused = zoo.fuse(as_trained((model, variables)))
    content = make_proto(fused, SIZE).SerializeToString()
    imported = from_onnx(content)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    x, x_planes = jax.device_put(images), jax.device_put(planes)
    return {
        ZOO: lambda: jax.block_until_ready(fused(x)),
        IMPORTED: lambda: jax.block_until_ready(imported(x_planes)),
        ONNXRUNTIME: lambda: session.run(None, {"images": planes}),
    }


def make_trainings(name: str, batch: int) -> Mapping[str, Callable[[], Any]]:
    """The same for gradients by all parameters, with norms by the batch."""
    model, random = zoo.create(name), np.random.default_rng(0)
    shape = (batch, TRAINING_SIZE, TRAINING_SIZE, 3)
    images = jax.device_put(random.normal(size=shape).astype(np.float32))
    variables = jax.jit(model.init)(jax.random.key(0), images[:1])
    own = as_trained((model, variables))
    imported = from_onnx(make_proto(own, TRAINING_SIZE)).as_trained()

    def make_step(trained: zoo.Trained) -> Callable[[], Any]:
        def compute_loss(params: Any, statistics: Any) -> jax.Array:
            variables = {"params": params, "batch_stats": statistics}
            logits, _ = trained.model.apply(
                *(variables, images),
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(1)},
            )
            return jax.nn.log_softmax(logits)[:, 0].mean()

        compute_gradients = zoo.jit(jax.grad(compute_loss))
        arguments = trained.variables["params"], trained.variables["batch_stats"]
        return lambda: jax.block_until_ready(compute_gradients(*arguments))

    return {ZOO: make_step(own), IMPORTED: make_step(imported)}


def measure(candidates: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The median of each candidate's milliseconds."""
    for run in candidates.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            time.sleep(PAUSE)
            run()  # wakes the threads
            start = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(each) for name, each in times.items()}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.models.imported",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", default="ResNet50,MobileNetV2", help="separated by commas")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each")
    parser.add_argument("--training", action="store_true", help="gradients, of the last batch size")
    return parser.parse_args(arguments)


def main() -> None:
    """Measures, and prints the figures."""
    options = parse_arguments()
    make = make_trainings if options.training else make_candidates
    for name in options.models.split(","):
        for batch in BATCHES[-1:] if options.training else BATCHES:
            medians = measure(make(name, batch), options.rounds)
            shown = ", ".join(f"{each} {value:.1f} ms" for each, value in medians.items())
            ratios = ", ".join(
                f"{medians[IMPORTED] / value:.2f} of {each}"
                for each, value in medians.items()
                if each != IMPORTED
            )
            print(f"{name}, batch {batch}: {shown}; imported over others: {ratios}", flush=True)


if __name__ == "__main__":
    main()
