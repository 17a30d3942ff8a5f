"""The candidates of `benchmarks.models`: the zoo's, the same in plain flax, and other libraries."""

import functools
import inspect
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import interleaved, memory
from benchmarks.models import deployed
from benchmarks.models.cases import (
    FORWARD_BACKWARD,
    FUSED_INFERENCE,
    LOSS_GRADIENT,
    TRAINING_STEP,
    Workload,
)
from benchmarks.operators.cases import DEVICES
from zoo.runtime.memory import keep_memory

MOMENTUM = 0.9
WARM_UP = 3
CLASSES = 1000
# Ends the name of a candidate that gives no memory back to the system.
KEEP_MEMORY = ", memory kept"


def run_candidate(name: str, device_name: str) -> None:
    """Runs the candidate of this name on a device, until its input ends."""
    platform = DEVICES[device_name].platform
    if name.endswith(KEEP_MEMORY) and not keep_memory():
        raise SystemExit(f"{name}: this C library cannot be told to keep memory")
    name = name.removesuffix(KEEP_MEMORY)
    if name.startswith("torch"):
        return _run_torch(platform, compiled=name == "torch compiled")
    if name in (deployed.COMPILED, deployed.ONNXRUNTIME):
        return _run_deployed(platform, name)
    return _run_jax(platform, name)


def make_batch(workload: Workload) -> tuple[np.ndarray, np.ndarray]:
    """Random normalised images [N, H, W, 3], or a layer's input, and random labels [N]."""
    random = np.random.default_rng(0)
    x = random.standard_normal(workload.shape, np.float32)
    return x, random.integers(CLASSES, size=workload.batch)


def _warm_up(
    run_once: Callable[[], Any],
    cost: dict[str, Any],
    initial_bytes: int | None,
    planned_bytes: Callable[[], int] | None = None,
) -> tuple[dict[str, Any], Callable[[], float]]:
    """Adds the seconds of a round and the peak of memory to a workload's costs; → (costs, round).

    Args:
      run_once: does the work of a round, and returns when it is done.
      cost: what is known already.
      initial_bytes: memory of the process before anything of the model was made; None if unknown.
      planned_bytes: gives the peak of a GPU's memory, instead of the process's.
    """
    seconds = interleaved.wall_seconds(run_once, 1)
    for _ in range(WARM_UP - 1 if seconds < interleaved.SLOW_SECONDS else 1):
        seconds = min(seconds, interleaved.wall_seconds(run_once, 1))
    if planned_bytes:
        cost["peak"] = planned_bytes()
    elif initial_bytes is not None and (peak := memory.peak_bytes(run_once)) is not None:
        cost["peak"] = peak - initial_bytes
    repeats = interleaved.count_repeats(seconds)
    run_round = functools.partial(interleaved.wall_seconds_after_pause, run_once, repeats)
    return {"seconds": seconds, **cost}, run_round


def _run_layer(layer: Any, variables: Any, x: Any, labels: Any, key: Any) -> Any:
    """→ a layer's output, its gradients (the output is the gradient given), new statistics."""
    import jax

    from zoo.models.layers import BatchNorm

    options = {"train": True} if isinstance(layer, BatchNorm) else {}

    def forward(params: Any, x: Any) -> Any:
        return layer.apply({**variables, "params": params}, x, mutable=["batch_stats"], **options)

    y, pullback, new = jax.vjp(forward, variables.get("params", {}), x, has_aux=True)
    return y, pullback(y), new


def _run_jax(platform: str, name: str) -> None:
    """Runs "ours" under `kernels.jit`, "ours, plain jit" under `jax.jit`, or plain "flax"."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax
    import optax

    import zoo_kernels as kernels
    from benchmarks.models.flax_layers import flax_layers
    from benchmarks.models.random_weights import perturb
    from zoo import fuse
    from zoo.runtime.bench import LEARNING_RATE
    from zoo.training import step as training

    jax.config.update("jax_default_device", jax.devices(platform)[0])
    jax.config.update("jax_enable_compilation_cache", False)

    def jit(f: Callable[..., Any], **options: Any) -> Any:
        if name != "flax":
            return (kernels.jit if name == "ours" else jax.jit)(f, **options)

        def run_on_flax_layers(*args: Any) -> Any:
            with flax_layers():
                return f(*args)

        return jax.jit(run_on_flax_layers, **options)

    optimizer = optax.sgd(LEARNING_RATE, momentum=MOMENTUM)

    def make_pass(pass_name: str, model: Any) -> Any:
        if pass_name == TRAINING_STEP:
            step = inspect.unwrap(training.make_train_step(model, optimizer))
            return jit(lambda state, x, labels, key: step(state, x, labels), donate_argnums=0)
        if pass_name == FORWARD_BACKWARD:
            return jit(functools.partial(_run_layer, model))
        if pass_name != LOSS_GRADIENT:
            return jit(lambda variables, x, labels, key: model.apply(variables, x))

        def gradient(variables: Any, x: Any, labels: Any, key: Any) -> Any:
            def loss(params: Any) -> Any:
                return training.classification_loss(
                    model, {**variables, "params": params}, x, labels, key
                )

            return jax.value_and_grad(loss, has_aux=True)(variables["params"])

        return jit(gradient)

    def prepare(text: str) -> tuple[dict[str, Any], Callable[[], float]]:
        workload = Workload.decode(text)
        model = workload.build()
        images, labels = make_batch(workload)
        fused = workload.pass_name == FUSED_INFERENCE

        def make_state() -> Any:
            variables = model.init(jax.random.key(0), jax.numpy.zeros(images.shape))
            if not workload.training:
                variables = perturb(variables)
            if fused:
                return fuse(model, variables).variables
            if workload.pass_name == TRAINING_STEP:
                return training.init_train_state(variables, optimizer)
            return variables

        function = make_pass(workload.pass_name, model.clone(fused=True) if fused else model)
        state_shapes, key_shape = jax.eval_shape(lambda: (make_state(), jax.random.key(1)))
        image_shape = jax.ShapeDtypeStruct(images.shape, images.dtype)
        label_shape = jax.ShapeDtypeStruct(
            labels.shape, jax.dtypes.canonicalize_dtype(labels.dtype)
        )
        start = time.perf_counter()
        compiled = function.lower(state_shapes, image_shape, label_shape, key_shape).compile()
        cost = {"compile": time.perf_counter() - start}
        planned = compiled.memory_analysis()
        initial_bytes = memory.resident_bytes()  # the compiler's own memory is not the model's
        state = [jax.device_put(make_state())]
        inputs = *jax.device_put((images, labels)), jax.random.key(1)

        def run_once() -> None:
            outputs = jax.block_until_ready(function(state[0], *inputs))
            if workload.pass_name == TRAINING_STEP:
                state[0] = outputs[0]

        run_once()

        def planned_bytes() -> int:
            in_and_out = planned.argument_size_in_bytes + planned.output_size_in_bytes
            return int(in_and_out - planned.alias_size_in_bytes + planned.temp_size_in_bytes)

        return _warm_up(
            run_once, cost, initial_bytes, planned_bytes if platform == "cuda" else None
        )

    interleaved.serve(prepare, {"jax": jax.__version__, "python": sys.version.split()[0]})


def _run_deployed(platform: str, name: str) -> None:
    """Runs "ours, compiled" or "onnxruntime": inference, from and to NumPy's arrays."""

    def prepare(text: str) -> tuple[dict[str, Any], Callable[[], float]]:
        workload = Workload.decode(text)
        check_deployed(name, workload, platform)
        fused = workload.pass_name == FUSED_INFERENCE
        call, seconds, initial_bytes = deployed.deploy(
            name, workload.build(), workload.batch, workload.size, fused
        )
        images = deployed.arrange_images(name, make_batch(workload)[0])
        return _warm_up(lambda: call(images), {"compile": seconds}, initial_bytes)

    python = {"python": sys.version.split()[0]}
    interleaved.serve(prepare, deployed.find_versions(name) | python)


def check_deployed(name: str, workload: Workload, platform: str) -> None:
    """Raises NotImplementedError for what a deployed model does not do."""
    if platform != "cpu":
        raise NotImplementedError("it runs on a CPU alone")
    if workload.layer or workload.training:
        raise NotImplementedError("it runs inference of whole models alone")
    if name == deployed.COMPILED and workload.pass_name != FUSED_INFERENCE:
        raise NotImplementedError("it folds the norms into the convolutions")
    if name == deployed.ONNXRUNTIME and workload.dtype != "float32":
        raise NotImplementedError("models are exported in float32 alone")


def _make_torch_pass(workload: Workload, model: Any, x: Any, labels: Any) -> Callable[[], Any]:
    """A function that does the work of a round in PyTorch."""
    import torch

    from zoo.runtime.bench import LEARNING_RATE

    bfloat16 = workload.dtype == "bfloat16"
    autocast = torch.autocast(x.device.type, torch.bfloat16, enabled=bfloat16)
    parameters = list(model.parameters())

    def infer() -> None:
        with torch.inference_mode(), autocast:
            model(x)

    def forward_backward() -> None:
        with autocast:
            y = model(x)
        torch.autograd.grad(y, [x, *parameters], y.detach())

    def gradient() -> None:
        model.zero_grad(set_to_none=True)
        with autocast:
            loss = torch.nn.functional.cross_entropy(model(x).float(), labels)
        loss.backward()

    if workload.pass_name == LOSS_GRADIENT:
        return gradient
    if workload.pass_name == FORWARD_BACKWARD:
        x.requires_grad_()
        return forward_backward
    if workload.pass_name != TRAINING_STEP:
        return infer
    optimizer = torch.optim.SGD(parameters, LEARNING_RATE, MOMENTUM)

    def step() -> None:
        gradient()
        optimizer.step()

    return step


def _run_torch(platform: str, compiled: bool) -> None:
    """Runs the original models in PyTorch, channels_last, eager or compiled."""
    import torch
    from torch.fx.experimental import optimization

    from tests.peers import originals

    originals.torchvision_models()
    if hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    gpu = platform == "cuda"
    torch.backends.cudnn.benchmark = gpu
    import torch._inductor.config as inductor

    inductor.force_disable_caches = True

    def build_original(workload: Workload) -> Any:
        if workload.layer:
            layer: Any = workload.layer.torch(torch.nn)
            return layer.to(platform, memory_format=torch.channels_last)
        name, ours = workload.model, workload.build()
        original_names = originals.TIMM | originals.TORCHVISION
        source = "timm" if name in originals.TIMM else "torchvision"
        options: dict[str, Any] = {}
        if name == "GoogLeNet":
            options = {"aux_logits": False}
        elif source == "timm":  # its default is no dropout
            options = {"drop_rate": ours.dropout_rate} if hasattr(ours, "dropout_rate") else {}
            if rate := getattr(ours, "drop_path_rate", 0):
                options["drop_path_rate"] = rate
        model: Any = originals.built(source, original_names.get(name, name.lower()), **options)
        return model.to(platform, memory_format=torch.channels_last)

    def prepare(text: str) -> tuple[dict[str, Any], Callable[[], float]]:
        workload = Workload.decode(text)
        initial_bytes = memory.resident_bytes()
        model: Any = build_original(workload).train(workload.training)
        if workload.pass_name == FUSED_INFERENCE:
            try:
                model = optimization.fuse(model)
            except Exception as error:
                raise NotImplementedError(f"torch.fx cannot fuse it: {error}") from error
            model = model.to(memory_format=torch.channels_last)
        images, labels = (torch.from_numpy(a).to(platform) for a in make_batch(workload))
        x = images
        if x.ndim == 4:
            x = x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        del images
        function = torch.compile(model, dynamic=False) if compiled else model
        run_pass = _make_torch_pass(workload, function, x, labels)

        def run_once() -> None:
            run_pass()
            if gpu:
                torch.cuda.synchronize()

        first = interleaved.wall_seconds(run_once, 1)
        cost = {"compile": first - interleaved.wall_seconds(run_once, 1)} if compiled else {}

        def planned_bytes() -> int:
            torch.cuda.reset_peak_memory_stats()
            run_once()
            return int(torch.cuda.max_memory_allocated())

        return _warm_up(run_once, cost, initial_bytes, planned_bytes if gpu else None)

    interleaved.serve(prepare, {"torch": str(torch.__version__), "python": sys.version.split()[0]})
