"""The server of `zoo serve` around onnxruntime, which runs what `zoo.to_onnx` exports.

    python -m benchmarks.serving.onnxruntime_server [--model EfficientNetLite0] [--max-batch 8]

Everything but the computing of a batch is the same: HTTP, decoding, preprocessing and batching.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import zoo
from zoo.serve import server
from zoo.serve.app import Limits


class OnnxruntimeClassifier:
    """A model in onnxruntime, as `zoo.serve` takes it.

    Args:
      trained: the same model in the zoo, whose preprocessing and labels it has.
      max_batch: the largest number of photos of a batch; it takes each number up to it.
    """

    def __init__(self, trained: zoo.Trained, max_batch: int) -> None:
        self.info, self.size = trained.info, trained.info.preprocessing.size
        self.batch_sizes = (1, max_batch)
        self.preprocess = trained.preprocess
        self.count_top, self.rank_labels = trained.count_top, trained.rank_labels
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _count_cores()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            zoo.to_onnx(zoo.fuse(trained), file)
            self._session = onnxruntime.InferenceSession(
                file.read_bytes(), options, providers=["CPUExecutionProvider"]
            )

    def probabilities(self, x: Any) -> Any:
        """[N, H, W, C] → [N, classes]."""
        planes = np.ascontiguousarray(np.asarray(x).transpose(0, 3, 1, 2))
        (logits,) = self._session.run(None, {"images": planes})
        powers = np.exp(logits - logits.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)


def _count_cores() -> int:
    """The cores that this process may use, as many threads as XLA takes."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until a signal stops it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving.onnxruntime_server",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="EfficientNetLite0", help="a model with weights")
    parser.add_argument("--max-batch", type=int, default=8, help="photos of a batch")
    parser.add_argument("--max-wait-ms", type=float, default=2.0, help="as of zoo serve")
    options = parser.parse_args(arguments)
    model = OnnxruntimeClassifier(zoo.trained(options.model), options.max_batch)
    limits = Limits(max_wait=options.max_wait_ms / 1e3)
    with server.bind("127.0.0.1", 0) as listener:
        server.run(
            *(model, listener, limits),
            lambda address: print(f"{options.model} at {address}", flush=True),
        )


if __name__ == "__main__":
    main()
