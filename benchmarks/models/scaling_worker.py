"""The processes that `benchmarks.models.scaling` times: ours on any number of devices, PyTorch."""

import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import alternate

INFERENCE, TRAINING = PASSES = ("inference, fused", "training step")


class Job(NamedTuple):
    """What is timed: a pass of a model on so many images of so many pixels on so many devices."""

    model: str
    name: str
    batch: int
    size: int
    devices: int = 1

    def __str__(self) -> str:
        return json.dumps(self)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Normalised images [N, H, W, C], and their labels."""
        random = np.random.default_rng(0)
        images = random.standard_normal((self.batch, self.size, self.size, 3), np.float32)
        return images, random.integers(1000, size=self.batch)


def ours(gpu: bool, devices: int) -> None:
    """The zoo's side; simulates that many devices on a CPU, where there are more than one."""
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

    def prepare(line: str) -> Callable[[], Any]:
        job = Job(*json.loads(line))
        if job.devices > jax.device_count():
            raise NotImplementedError(f"there are {jax.device_count()} devices")
        mesh = jax.make_mesh(
            (job.devices,),
            ("data",),
            axis_types=(AxisType.Auto,),
            devices=jax.devices()[: job.devices],
        )
        shared, everywhere = (NamedSharding(mesh, PartitionSpec(*s)) for s in (("data",), ()))
        x, labels = jax.device_put(job.arrays(), shared)
        model = MODELS[job.model].constructor()
        variables = model.init(jax.random.key(0), jax.ShapeDtypeStruct(x.shape, x.dtype))
        if job.name == INFERENCE:
            model, variables = zoo.fuse(model, variables)
            variables = jax.device_put(variables, everywhere)
            apply = zoo.jit(model.apply)
            return lambda: jax.block_until_ready(apply(variables, x))
        optimizer = optax.sgd(LEARNING_RATE, momentum=0.9)
        state = [jax.device_put(training.init_train_state(variables, optimizer), everywhere)]
        key = jax.device_put(jax.random.key(1), everywhere)
        step = training.make_train_step(model, optimizer)

        def once() -> None:
            state[0], loss = step(state[0], x, labels, key)
            jax.block_until_ready((state[0], loss))

        return once

    versions = {"jax": jax.__version__, "python": sys.version.split()[0]}
    alternate.serve(prepare, versions | {"device": jax.devices()[0].device_kind})


def torch(gpu: bool) -> None:
    """PyTorch's side: the model's original, eager, channels_last, its norms not folded."""
    import torch

    from zoo.runtime.bench import LEARNING_RATE

    originals = importlib.import_module("tests.peers.originals")  # untyped, as all tests are
    device = "cuda" if gpu else "cpu"
    if gpu and not torch.cuda.is_available():
        raise SystemExit(f"torch {torch.__version__} sees no NVIDIA GPU")

    def wait() -> None:
        if gpu:
            torch.cuda.synchronize()

    def prepare(line: str) -> Callable[[], Any]:
        job = Job(*json.loads(line))
        images, numbers = job.arrays()
        x = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
        x, labels = x.contiguous(memory_format=torch.channels_last), torch.from_numpy(numbers)
        labels = labels.to(device)
        model = originals.original(job.model).to(device, memory_format=torch.channels_last)
        if job.name == INFERENCE:

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
    alternate.serve(prepare, versions)
