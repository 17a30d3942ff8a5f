"""The processes that `benchmarks.models` times in turn: jax, ours and plainly, and PyTorch."""

import functools
import inspect
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import alternate, memory
from benchmarks.models.cases import BOTH, FUSED, GRADIENT, STEP, Case, find
from benchmarks.operators.cases import DEVICES
from zoo.runtime.memory import keep_memory

MOMENTUM = 0.9
WARM_UP = 3
CLASSES = 1000
# What the name of a candidate ends in that gives no memory back to the system.
KEPT = ", memory kept"


def work(name: str, on: str) -> None:
    """Is the candidate of this name, on a device, until its input ends."""
    platform = DEVICES[on].platform
    if name.endswith(KEPT) and not keep_memory():
        raise SystemExit(f"{name}: this C library cannot be told to keep memory")
    name = name.removesuffix(KEPT)
    if name.startswith("torch"):
        return _torch(platform, compiled=name == "torch compiled")
    return _jax(platform, name)


def data(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Normalised images [N, H, W, 3], or a layer's input, and labels [N], random ones."""
    random = np.random.default_rng(0)
    x = random.standard_normal(case.shape, np.float32)
    return x, random.integers(CLASSES, size=case.batch)


def _ready(
    once: Callable[[], Any], cost: dict[str, Any], before: int | None, planned: Any = None
) -> tuple[dict[str, Any], Callable[[], float]]:
    """Warms up, and adds the seconds of a round and the peak of memory to what a job cost.

    Args:
      once: does a round, and returns when it is done.
      cost: what is known already.
      before: bytes that the process held before anything of the model was made.
      planned: gives the bytes of a GPU's memory at most, in place of the process's.
    """
    seconds = alternate.wall(once, 1)
    for _ in range(WARM_UP - 1 if seconds < alternate.SLOW else 1):
        seconds = min(seconds, alternate.wall(once, 1))
    peak = planned() if planned else memory.peak(once)
    if peak is not None:
        cost["peak"] = peak if planned else peak - (before or 0)
    repeats = max(1, round(alternate.SHORTEST / seconds))

    return {"seconds": seconds, **cost}, functools.partial(alternate.rested, once, repeats)


def _both(layer: Any, variables: Any, x: Any, labels: Any, key: Any) -> Any:
    """→ a layer's output, the gradients that it gives itself, and new statistics."""
    import jax

    from zoo.models.layers import BatchNorm

    options = {"train": True} if isinstance(layer, BatchNorm) else {}

    def forward(params: Any, x: Any) -> Any:
        return layer.apply({**variables, "params": params}, x, mutable=["batch_stats"], **options)

    y, back, new = jax.vjp(forward, variables.get("params", {}), x, has_aux=True)
    return y, back(y), new


def _jax(platform: str, kind: str) -> None:
    """Ours ("ours" by `kernels.jit`, "ours, plain jit" without options), or plain flax and lax."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax
    import optax

    import zoo_kernels as kernels
    from benchmarks.models.plain import plainly
    from zoo import fuse
    from zoo.runtime.bench import LEARNING_RATE
    from zoo.training import step as training

    jax.config.update("jax_default_device", jax.devices(platform)[0])
    jax.config.update("jax_enable_compilation_cache", False)

    def jit(f: Callable[..., Any], **options: Any) -> Any:
        if kind != "flax":
            return (kernels.jit if kind == "ours" else jax.jit)(f, **options)

        def plain(*args: Any) -> Any:
            with plainly():
                return f(*args)

        return jax.jit(plain, **options)

    optimizer = optax.sgd(LEARNING_RATE, momentum=MOMENTUM)

    def program(case: Case, model: Any) -> Any:
        if case.pass_ == STEP:
            return jit(inspect.unwrap(training.make_train_step(model, optimizer)), donate_argnums=0)
        if case.pass_ == BOTH:
            return jit(functools.partial(_both, model))
        if case.pass_ != GRADIENT:
            return jit(lambda variables, x, labels, key: model.apply(variables, x))

        def gradient(variables: Any, x: Any, labels: Any, key: Any) -> Any:
            def loss(params: Any) -> Any:
                return training.classification_loss(
                    model, {**variables, "params": params}, x, labels, key
                )

            return jax.value_and_grad(loss, has_aux=True)(variables["params"])

        return jit(gradient)

    def prepare(job: str) -> tuple[dict[str, Any], Callable[[], float]]:
        case = find(job)
        model = case.constructed()
        images, labels = data(case)

        def state() -> Any:
            variables = model.init(jax.random.key(0), jax.numpy.zeros(images.shape))
            if case.pass_ == FUSED:
                return fuse(model, variables)[1]
            return (
                training.init_train_state(variables, optimizer) if case.pass_ == STEP else variables
            )

        call = program(case, model.clone(fused=True) if case.pass_ == FUSED else model)
        shapes = jax.eval_shape(lambda: (state(), jax.random.key(1)))
        images_, labels_ = (jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (images, labels))
        labels_ = jax.ShapeDtypeStruct(labels.shape, jax.dtypes.canonicalize_dtype(labels.dtype))
        start = time.perf_counter()
        compiled = call.lower(shapes[0], images_, labels_, shapes[1]).compile()
        cost = {"compile": time.perf_counter() - start}
        plan = compiled.memory_analysis()
        before = memory.resident()  # the compiler's own is the compile column's matter
        kept = [jax.device_put(state())]
        rest = *jax.device_put((images, labels)), jax.random.key(1)

        def once() -> None:
            out = jax.block_until_ready(call(kept[0], *rest))
            if case.pass_ == STEP:
                kept[0] = out[0]

        once()

        def planned() -> int:
            held = plan.argument_size_in_bytes + plan.output_size_in_bytes
            return int(held - plan.alias_size_in_bytes + plan.temp_size_in_bytes)

        return _ready(once, cost, before, planned if platform == "cuda" else None)

    versions = {"jax": jax.__version__, "python": sys.version.split()[0]}
    alternate.answer(prepare, versions)


def _torch_round(case: Case, model: Any, x: Any, labels: Any) -> Callable[[], Any]:
    """What does one round of a case in PyTorch."""
    import torch

    from zoo.runtime.bench import LEARNING_RATE

    half = torch.autocast(x.device.type, torch.bfloat16, enabled=case.dtype == "bfloat16")
    parameters = list(model.parameters())

    def infer() -> None:
        with torch.inference_mode(), half:
            model(x)

    def both() -> None:
        with half:
            y = model(x)
        torch.autograd.grad(y, [x, *parameters], y.detach())

    def gradient() -> None:
        model.zero_grad(set_to_none=True)
        with half:
            loss = torch.nn.functional.cross_entropy(model(x).float(), labels)
        loss.backward()

    if case.pass_ == GRADIENT:
        return gradient
    if case.pass_ == BOTH:
        x.requires_grad_()
        return both
    if case.pass_ != STEP:
        return infer
    optimizer = torch.optim.SGD(parameters, LEARNING_RATE, MOMENTUM)

    def step() -> None:
        gradient()
        optimizer.step()

    return step


def _torch(platform: str, compiled: bool) -> None:
    """The originals in PyTorch, channels_last, eager or compiled."""
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

    def original(case: Case) -> Any:
        if case.layer:
            layer: Any = case.layer.torch(torch.nn)
            return layer.to(platform, memory_format=torch.channels_last)
        name, ours = case.model, case.constructed()
        known = originals.TIMM | originals.TORCHVISION
        source = "timm" if name in originals.TIMM else "torchvision"
        options: dict[str, Any] = {}
        if name == "GoogLeNet":
            options = {"aux_logits": False}
        elif source == "timm":  # which has no dropout unless told
            options = {"drop_rate": ours.dropout_rate} if hasattr(ours, "dropout_rate") else {}
            if rate := getattr(ours, "drop_path_rate", 0):
                options["drop_path_rate"] = rate
        model: Any = originals.built(source, known.get(name, name.lower()), **options)
        return model.to(platform, memory_format=torch.channels_last)

    def prepare(job: str) -> tuple[dict[str, Any], Callable[[], float]]:
        case = find(job)
        before = memory.resident()
        model: Any = original(case).train(case.training)
        if case.pass_ == FUSED:
            try:
                model = optimization.fuse(model)
            except Exception as error:
                raise NotImplementedError(f"torch.fx cannot fuse it: {error}") from error
            model = model.to(memory_format=torch.channels_last)
        images, labels = (torch.from_numpy(a).to(platform) for a in data(case))
        x = images
        if x.ndim == 4:
            x = x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        del images
        call = torch.compile(model, dynamic=False) if compiled else model
        work = _torch_round(case, call, x, labels)

        def once() -> None:
            work()
            if gpu:
                torch.cuda.synchronize()

        first = alternate.wall(once, 1)
        cost = {"compile": first - alternate.wall(once, 1)} if compiled else {}

        def planned() -> int:
            torch.cuda.reset_peak_memory_stats()
            once()
            return int(torch.cuda.max_memory_allocated())

        return _ready(once, cost, before, planned if gpu else None)

    alternate.answer(prepare, {"torch": str(torch.__version__), "python": sys.version.split()[0]})
