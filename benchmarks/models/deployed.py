"""Models as they are deployed on a CPU: called on NumPy's images, they give NumPy's logits.

"ours" is what a user has without further steps, weights being arguments of a program. "ours,
compiled" is `Trained.compile`, and "onnxruntime" runs the same model from a file of ONNX: both know
the weights when they compile. So all have those of `random_weights`, which cannot be simplified.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import memory

OURS, COMPILED, ONNXRUNTIME = DEPLOYED = ("ours", "ours, compiled", "onnxruntime")


class Deployment(NamedTuple):
    """A model that is ready to be called.

    Args:
      call: images as `arrange_images` gives them → logits [N, classes], computed.
      seconds: that compiling took, or loading the file; None where the first call does it.
      initial_bytes: memory of the process before it held the weights; None where it cannot be told
        from the compiler's.
    """

    call: Callable[[np.ndarray], np.ndarray]
    seconds: float | None
    initial_bytes: int | None


def deploy(name: str, model: Any, batch: int, size: int, fused: bool = True) -> Deployment:
    """Makes the candidate of this name run a model.

    Args:
      name: one of `DEPLOYED`.
      model: its definition; weights are random.
      batch: the number of images of a call.
      size: their height and width in pixels.
      fused: whether to fold the norms into the convolutions, which "ours, compiled" always does.
    """
    import zoo
    from benchmarks.models.random_weights import make_trained

    trained = make_trained(model, size)
    if name == COMPILED:
        start = time.perf_counter()
        compiled = trained.compile(batch_sizes=(batch,), size=size)
        return Deployment(compiled, time.perf_counter() - start, initial_bytes=None)
    if fused:
        trained = zoo.fuse(trained)
    return _deploy_file(trained, size) if name == ONNXRUNTIME else _deploy_ours(trained)


def arrange_images(name: str, images: np.ndarray) -> np.ndarray:
    """Images [N, H, W, C] in the order that a candidate takes: onnxruntime's is [N, C, H, W]."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if name == ONNXRUNTIME else images


def find_versions(name: str) -> dict[str, str]:
    """The version of what a candidate runs on."""
    if name == ONNXRUNTIME:
        import onnxruntime

        return {"onnxruntime": onnxruntime.__version__}
    import jax

    return {"jax": jax.__version__}


def count_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_onnx(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """A function that runs a file of ONNX in onnxruntime, on all cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = count_cores()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    input_name = session.get_inputs()[0].name

    def call(images: np.ndarray) -> np.ndarray:
        logits: np.ndarray = session.run(None, {input_name: images})[0]
        return logits

    return call


def _deploy_ours(trained: Any) -> Deployment:
    """`zoo.jit` of the definition, as in the guides."""
    import jax

    import zoo

    model, variables = trained
    variables = jax.device_put(variables)
    apply = zoo.jit(lambda variables, images: model.apply(variables, images))
    return Deployment(
        lambda images: np.asarray(apply(variables, images)), seconds=None, initial_bytes=None
    )


def _deploy_file(trained: Any, size: int) -> Deployment:
    """Exports a model, forgets it, and loads the file."""
    import zoo

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        zoo.to_onnx(trained, path, size=size)
        del trained
        initial_bytes = memory.resident_bytes()
        start = time.perf_counter()
        call = load_onnx(path)
        return Deployment(call, time.perf_counter() - start, initial_bytes)
