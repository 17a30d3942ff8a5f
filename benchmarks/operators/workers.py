"""The processes that `benchmarks.operators` times in turn: jax in several ways, and PyTorch."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.harness import alternate, device_time
from benchmarks.operators.cases import COPY, DEVICES, PRODUCT, Case, Device, arrays, find

# A job's function, and what it takes.
Job = tuple[Callable[..., Any], Sequence[Any]]


def work(name: str, on: str, clock: str) -> None:
    """Is the candidate of this name, on a device, until its input ends."""
    device = DEVICES[on]
    if name.startswith("torch"):
        return _torch(device, clock, compiled=name == "torch compiled")
    return _jax(device, clock, name)


def _serve(
    device: Device,
    prepare: Callable[[str], Job],
    wait: Callable[[Any], Any],
    another: Callable[[Any], Any],
    versions: dict[str, str],
    tracer: device_time.Tracer | None,
) -> None:
    """Answers the jobs.

    Args:
      device: what on.
      prepare: makes a job.
      wait: returns when a result is there.
      another: an array like another one, elsewhere in memory.
      versions: what runs here.
      tracer: see `device_time.serve`.
    """
    versions["python"] = sys.version.split()[0]
    if not device.gpu:

        def once(job: str) -> Callable[[], Any]:
            call, operands = prepare(job)
            return lambda: wait(call(*operands))

        return alternate.serve(once, versions)

    def rotating(job: str) -> device_time.Calls:
        call, operands = prepare(job)
        count = 1 if job in (COPY, PRODUCT) else device.sets(find(job)[0])
        others = [[another(operand) for operand in operands] for _ in range(count - 1)]
        return device_time.Calls(call, [operands, *others], wait)

    return device_time.serve(rotating, versions, tracer)


def _jax(device: Device, clock: str, kind: str) -> None:
    """Ours, with an implementation, an algorithm or compiler options, or lax."""
    # The candidates share a GPU's memory: none is to take three quarters of it, as jax does.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("XLA_CLIENT_MEM_FRACTION", "0.2")
    import jax
    import jax.numpy as jnp
    from jax import lax

    import zoo_kernels as kernels

    gpu = device.platform == "cuda"
    try:
        found = jax.devices(device.platform)[0]
    except RuntimeError as error:
        raise SystemExit(
            f"{kind}: jax {jax.__version__} sees no NVIDIA GPU ({error}); "
            "`pip install 'jax[cuda13]'` on a machine that has one"
        ) from error
    jax.config.update("jax_default_device", found)
    kind, _, options = kind.partition(", ")
    jit = kernels.jit if options else jax.jit
    implementation = "triton" if kind == "triton" else None

    def operator(case: Case) -> Callable[..., Any]:
        pads = [(case.kernel // 2, case.kernel // 2)] * 2
        if kind == "lax":
            return lambda x, w: lax.conv_general_dilated(
                x,
                w,
                (case.strides,) * 2,
                pads,
                feature_group_count=case.channels if case.op == "depthwise" else 1,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
        if case.op == "depthwise":
            return lambda x, w: kernels.depthwise_conv(
                x, w, strides=case.strides, padding=pads, implementation=implementation
            )
        algo = "auto" if kind in ("ours", "triton") else kind
        return lambda x, w: kernels.conv(x, w, strides=case.strides, padding=pads, algo=algo)

    def pointwise(case: Case) -> Callable[..., Any]:
        if case.op == "bias_act":
            if kind == "lax":
                act = jax.nn.silu if case.act == "silu" else lambda y: jnp.maximum(y, 0)
                return lambda x, w: act(x + w)
            return lambda x, w: kernels.bias_act(x, w, case.act, implementation=implementation)
        if kind != "lax":
            return lambda x, scale, bias: kernels.batch_norm(
                x, scale, bias, act=case.act, implementation=implementation
            )[0]

        def plain(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
            wide = x.astype(jnp.float32)
            mean, var = wide.mean((0, 1, 2)), wide.var((0, 1, 2))
            y = (wide - mean) * lax.rsqrt(var + 1e-5) * scale + bias
            return jnp.maximum(y, 0).astype(x.dtype)

        return plain

    def taken(op: Callable[..., Any], pass_: str) -> Callable[..., Any]:
        if pass_ == "forward":
            return op
        if pass_ == "input gradient":
            return lambda x, w, dy: jax.vjp(lambda x: op(x, w), x)[1](dy)
        if pass_ == "weight gradient":
            return lambda x, w, dy: jax.vjp(lambda w: op(x, w), w)[1](dy)
        if not device.gpu:
            return lambda *operands: jax.vjp(op, *operands[:-1])[1](operands[-1])

        def both(*operands: Any) -> Any:
            y, back = jax.vjp(op, *operands[:-1])
            return y, back(operands[-1])  # y, too: in a model the next layer takes it

        return both

    def rates(job: str) -> Job:
        size = device.copied if job == COPY else (device.multiplied, device.multiplied)
        a = jax.device_put(np.random.default_rng(0).random(size=size, dtype=np.float32))
        if job == PRODUCT:
            # A GPU's default would be TF32, on units that only matrix products can use.
            precision = "highest" if gpu else None
            return jax.jit(lambda a: jnp.matmul(a, a, precision=precision)), (a,)
        copy, place = jax.jit(jnp.negative, donate_argnums=0), [a]

        def again() -> jax.Array:  # in place: fresh memory would cost the first touch of its pages
            place[0] = copy(place[0])
            return place[0]

        return again, ()

    def prepare(job: str) -> Job:
        if job in (COPY, PRODUCT):
            return rates(job)
        case, pass_ = find(job)
        operands = [
            jax.device_put(a.astype(jnp.dtype(dtype), copy=False))
            for a, dtype in zip(arrays(case, pass_), case.dtypes, strict=False)
        ]
        call = taken(operator(case) if case.kernel else pointwise(case), pass_)
        # A jit's own call, unlike that of an AOT-compiled one, is all in C++.
        return jit(call), operands

    versions = {"jax": jax.__version__}
    if device.gpu:
        client = found.client.platform_version.split()
        versions |= {"device": found.device_kind, "runtime": " ".join(client)}
    tracer = device_time.jax_tracer(device.platform) if clock == "profiler" else None
    _serve(device, prepare, jax.block_until_ready, jnp.copy, versions, tracer)


def _torch(device: Device, clock: str, compiled: bool) -> None:
    """PyTorch, eager or compiled, channels_last."""
    import torch

    nn = torch.nn.functional
    gpu = device.platform == "cuda"
    if gpu and not torch.cuda.is_available():
        raise SystemExit(f"torch {torch.__version__} sees no NVIDIA GPU")
    torch.backends.cudnn.benchmark = gpu  # else cuDNN's first guess is all that it tries

    def fast(f: Callable[..., Any]) -> Callable[..., Any]:
        if not compiled:
            return f
        torch.compiler.reset()  # after 8 shapes of the same code it would stay eager
        compiled_f: Callable[..., Any] = torch.compile(f, dynamic=False, fullgraph=True)
        return compiled_f

    def tensors(case: Case, pass_: str) -> Iterator[Any]:
        images, kernels = (0, 3, 1, 2), (3, 2, 0, 1)
        for i, a in enumerate(arrays(case, pass_)):
            t = torch.from_numpy(a).to(device.platform, getattr(torch, case.dtypes[i]))
            if t.ndim == 4:
                t = t.permute(kernels if i == 1 else images)
                t = t.contiguous(memory_format=torch.channels_last)
            yield t

    def convolution(case: Case, pass_: str) -> Callable[..., Any]:
        groups = case.channels if case.op == "depthwise" else 1
        geometry = [case.strides] * 2, [case.kernel // 2] * 2, [1, 1]
        if pass_ == "forward":
            return lambda x, w: nn.conv2d(x, w, None, *geometry, groups)
        wanted = [pass_ == "input gradient", pass_ == "weight gradient", False]
        backward = torch.ops.aten.convolution_backward
        return lambda x, w, dy: backward(dy, x, w, None, *geometry, False, [0, 0], groups, wanted)

    def pointwise(case: Case, pass_: str) -> Callable[..., Any]:
        act = getattr(nn, case.act)

        def forward(x: Any, *vectors: Any) -> Any:
            if case.op == "bias_act":
                return act(x + vectors[0][:, None, None])
            scale, bias = vectors
            return act(nn.batch_norm(x, None, None, scale, bias, training=True))

        ahead = fast(forward)
        if pass_ == "forward":
            return ahead

        def both(*operands: Any) -> Any:
            y = ahead(*operands[:-1])
            return y, torch.autograd.grad(y, operands[:-1], operands[-1])

        return both

    def rates(job: str) -> Job:
        if not device.gpu:  # jax has told
            return lambda: None, ()
        size = (device.copied,) if job == COPY else (device.multiplied, device.multiplied)
        a = torch.rand(size, device=device.platform)
        if job == PRODUCT:
            return torch.matmul, (a, a)  # in float32: PyTorch allows no TF32 here by itself
        b = torch.empty_like(a)
        return b.copy_, (a,)

    def prepare(job: str) -> Job:
        if gpu:
            torch.cuda.empty_cache()
        if job in (COPY, PRODUCT):
            return rates(job)
        case, pass_ = find(job)
        operands = list(tensors(case, pass_))
        if case.kernel:
            return fast(convolution(case, pass_)), operands
        for operand in operands[:-1] if pass_ != "forward" else ():
            operand.requires_grad_()
        return pointwise(case, pass_), operands

    def another(t: Any) -> Any:
        return t.detach().clone().requires_grad_(t.requires_grad)

    versions = {"torch": str(torch.__version__)}
    if gpu:
        versions |= {
            "device": torch.cuda.get_device_name(),
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),
        }
    wait = (lambda result: torch.cuda.synchronize()) if gpu else (lambda result: None)
    tracer = device_time.torch_tracer(device.platform) if clock == "profiler" else None
    _serve(device, prepare, wait, another, versions, tracer)
