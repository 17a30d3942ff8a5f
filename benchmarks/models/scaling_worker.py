"""The candidates of `benchmarks.models.scaling`: ours on any number of devices, and PyTorch."""

import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import interleaved
from benchmarks.models.cases import FUSED_INFERENCE, TRAINING_STEP

PASSES = FUSED_INFERENCE, TRAINING_STEP


class ScalingPoint(NamedTuple):
    """A pass of a model at one batch, size of images [size, size] and number of devices."""

    model: str
    pass_name: str
    batch: int
    size: int
    devices: int = 1

    def encode(self) -> str:
        """The text that a candidate is asked for."""
        return json.dumps(self)

    @classmethod
    def decode(cls, text: str) -> "ScalingPoint":
        """The point of `encode`'s text."""
        return cls(*json.loads(text))

    def make_batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Random normalised images [N, H, W, C], and labels."""
        random = np.random.default_rng(0)
        images = random.standard_normal((self.batch, self.size, self.size, 3), np.float32)
        return images, random.integers(1000, size=self.batch)


def run_zoo(gpu: bool, devices: int) -> None:
    """Runs the zoo's candidate; several devices of a CPU are simulated."""
    if devices > 1 and not gpu:  # jax reads it when it starts
        flag = f"--xla_force_host_platform_device_count={devices}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    os.environ["JAX_PLATFORMS"] = "cuda" if gpu else "cpu"
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs some, too
    import jax
    import optax
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    import zoo
    from zoo.models.base import MODELS
    from zoo.runtime.bench import LEARNING_RATE
    from zoo.training import step as training

    def prepare(text: str) -> Callable[[], Any]:
        point = ScalingPoint.decode(text)
        if point.devices > jax.device_count():
            raise NotImplementedError(f"there are {jax.device_count()} devices")
        mesh = jax.make_mesh(
            (point.devices,),
            ("data",),
            axis_types=(AxisType.Auto,),
            devices=jax.devices()[: point.devices],
        )
        sharded = NamedSharding(mesh, PartitionSpec("data"))
        replicated = NamedSharding(mesh, PartitionSpec())
        x, labels = jax.device_put(point.make_batch(), sharded)
        model = MODELS[point.model].constructor()
        variables = model.init(jax.random.key(0), jax.ShapeDtypeStruct(x.shape, x.dtype))
        if point.pass_name == FUSED_INFERENCE:
            model, variables = zoo.fuse(model, variables)
            variables = jax.device_put(variables, replicated)
            apply = zoo.jit(model.apply)
            return lambda: jax.block_until_ready(apply(variables, x))
        optimizer = optax.sgd(LEARNING_RATE, momentum=0.9)
        state = [jax.device_put(training.init_train_state(variables, optimizer), replicated)]
        step = training.make_train_step(model, optimizer)

        def run_step() -> None:
            state[0], metrics = step(state[0], x, labels)
            jax.block_until_ready((state[0], metrics))

        return run_step

    versions = {"jax": jax.__version__, "python": sys.version.split()[0]}
    interleaved.serve_wall_times(prepare, versions | {"device": jax.devices()[0].device_kind})


def run_torch(gpu: bool) -> None:
    """Runs PyTorch's candidate: the original model, eager, channels_last, norms not folded."""
    import torch

    from zoo.runtime.bench import LEARNING_RATE

    originals = importlib.import_module("tests.peers.originals")  # untyped, as all tests are
    device = "cuda" if gpu else "cpu"
    if gpu and not torch.cuda.is_available():
        raise SystemExit(f"torch {torch.__version__} sees no NVIDIA GPU")

    def wait() -> None:
        if gpu:
            torch.cuda.synchronize()

    def prepare(text: str) -> Callable[[], Any]:
        point = ScalingPoint.decode(text)
        images, label_array = point.make_batch()
        x = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
        x, labels = x.contiguous(memory_format=torch.channels_last), torch.from_numpy(label_array)
        labels = labels.to(device)
        model = originals.original(point.model).to(device, memory_format=torch.channels_last)
        if point.pass_name == FUSED_INFERENCE:

            def infer() -> None:
                with torch.inference_mode():
                    model(x)
                wait()

            return infer
        optimizer = torch.optim.SGD(model.train().parameters(), LEARNING_RATE, momentum=0.9)

        def train() -> None:
            optimizer.zero_grad()
            out = model(x)
            logits, *auxiliary = out if isinstance(out, tuple) else (out,)
            losses = [torch.nn.functional.cross_entropy(y, labels) for y in (logits, *auxiliary)]
            (losses[0] + 0.3 * sum(losses[1:])).backward()
            optimizer.step()
            wait()

        return train

    versions = {"torch": str(torch.__version__), "python": sys.version.split()[0]}
    interleaved.serve_wall_times(prepare, versions)
