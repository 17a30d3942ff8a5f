"""The candidates of `benchmarks.models.latency`: each call is a sample."""

import itertools
import json
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import interleaved
from benchmarks.models import deployed

# Batches of images that a candidate is called on in turn.
INPUTS = 4
WARM_UP = 5


class Mode(NamedTuple):
    """What a candidate is asked for at once: `calls`, each after a pause of some seconds.

    Before these are `warm_up` calls that are not timed, and before all a pause of 0.1 seconds.
    """

    pause: float
    calls: int
    warm_up: int

    def encode(self) -> str:
        """The text that a candidate is asked for."""
        return json.dumps(self)

    @classmethod
    def decode(cls, text: str) -> "Mode":
        """The mode of `encode`'s text."""
        return cls(*json.loads(text))

    def estimate_seconds(self, call: float) -> float:
        """About how long it takes, if a call takes so many seconds."""
        pauses = interleaved.PAUSE_SECONDS + self.calls * self.pause
        return (self.warm_up + self.calls) * call + pauses


class LatencyPoint(NamedTuple):
    """A model at one batch and size of images [size, size], and the modes of a round."""

    model: str
    batch: int
    size: int
    modes: Sequence[Mode] = ()

    def encode(self) -> str:
        """The text that a candidate is asked for."""
        return json.dumps(self)

    @classmethod
    def decode(cls, text: str) -> "LatencyPoint":
        """The point of `encode`'s text."""
        model, batch, size, modes = json.loads(text)
        return cls(model, batch, size, [Mode(*mode) for mode in modes])

    def make_inputs(self) -> list[np.ndarray]:
        """Several batches of random normalised images [N, H, W, C]."""
        random = np.random.default_rng(0)
        shape = (self.batch, self.size, self.size, 3)
        return [random.standard_normal(shape, np.float32) for _ in range(INPUTS)]


def run_candidate(name: str) -> None:
    """Runs the candidate of this name, one of `deployed.DEPLOYED`, until its input ends."""
    import jax

    from zoo.models.base import MODELS
    from zoo.runtime.memory import keep_memory

    jax.config.update("jax_platforms", "cpu")
    if name == deployed.COMPILED and not keep_memory():  # before jax computes anything
        raise SystemExit(f"{name}: this C library cannot be told to keep memory")

    def prepare(text: str) -> tuple[dict[str, Any], Any]:
        point = LatencyPoint.decode(text)
        entry = MODELS[point.model]
        model = entry.constructor()
        model = model.clone(**model.backbone_options)  # without auxiliary classifiers
        call = deployed.deploy(name, model, point.batch, point.size).call
        arrays = [deployed.arrange_images(name, images) for images in point.make_inputs()]
        logits = call(arrays[0])[0]
        inputs = itertools.cycle(arrays)

        def time_call() -> float:
            images = next(inputs)
            start = time.perf_counter()
            call(images)
            return time.perf_counter() - start

        def run_round(text: str) -> list[float]:
            mode = Mode.decode(text)
            # onnxruntime's threads keep a core busy for 20 to 50 ms after their work. Sooner,
            # whoever comes next would be timed beside them.
            time.sleep(interleaved.PAUSE_SECONDS)
            for _ in range(mode.warm_up):
                time_call()
            samples = []
            for _ in range(mode.calls):
                if mode.pause:
                    time.sleep(mode.pause)
                samples.append(time_call())
            return samples

        call_seconds = min(time_call() for _ in range(WARM_UP))
        seconds = sum(mode.estimate_seconds(call_seconds) for mode in point.modes)
        return {"seconds": seconds, "logits": logits.tolist()}, run_round

    python = {"python": sys.version.split()[0]}
    interleaved.serve(prepare, deployed.find_versions(name) | python)
