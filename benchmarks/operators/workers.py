"""The candidates of `benchmarks.operators`: the zoo's operators, lax and PyTorch."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.harness import device_time, interleaved
from benchmarks.operators.cases import (
    COPY,
    DEVICES,
    PRODUCT,
    Case,
    DeviceSettings,
    decode_workload,
    make_operands,
)

# A function and its operands.
Call = tuple[Callable[..., Any], Sequence[Any]]


def run_candidate(name: str, device_name: str, clock: str) -> None:
    """Runs the candidate of this name on a device, until its input ends."""
    device = DEVICES[device_name]
    if name.startswith("torch"):
        return _run_torch(device, clock, compiled=name == "torch compiled")
    return _run_jax(device, clock, name)


def _serve(
    device: DeviceSettings,
    prepare: Callable[[str], Call],
    wait: Callable[[Any], Any],
    copy: Callable[[Any], Any],
    versions: dict[str, str],
    tracer: device_time.Tracer | None,
) -> None:
    """Answers the requests of a benchmark.

    Args:
      device: where the calls run.
      prepare: makes a workload's call.
      wait: returns when a result is computed.
      copy: copies an operand to other memory.
      versions: of what runs here.
      tracer: see `device_time.serve_device_times`.
    """
    versions["python"] = sys.version.split()[0]
    if not device.gpu:

        def prepare_call(workload: str) -> Callable[[], Any]:
            function, operands = prepare(workload)
            return lambda: wait(function(*operands))

        return interleaved.serve_wall_times(prepare_call, versions)

    def prepare_calls(workload: str) -> device_time.RotatingCalls:
        function, operands = prepare(workload)
        count = 1
        if workload not in (COPY, PRODUCT):
            count = device.count_operand_sets(decode_workload(workload)[0])
        copies = [[copy(operand) for operand in operands] for _ in range(count - 1)]
        return device_time.RotatingCalls(function, [operands, *copies], wait)

    return device_time.serve_device_times(prepare_calls, versions, tracer)


def _run_jax(device: DeviceSettings, clock: str, name: str) -> None:
    """Runs the zoo's operators ("ours", "triton", an algorithm of `conv`; ", options") or "lax"."""
    # The candidates share a GPU's memory: by default jax would take three quarters of it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("XLA_CLIENT_MEM_FRACTION", "0.2")
    import jax
    import jax.numpy as jnp
    from jax import lax

    import zoo_kernels as kernels

    gpu = device.platform == "cuda"
    try:
        jax_device = jax.devices(device.platform)[0]
    except RuntimeError as error:
        raise SystemExit(
            f"{name}: jax {jax.__version__} sees no NVIDIA GPU ({error}); "
            "`pip install 'jax[cuda13]'` on a machine that has one"
        ) from error
    jax.config.update("jax_default_device", jax_device)
    kind, _, options = name.partition(", ")
    jit = kernels.jit if options else jax.jit
    implementation = "triton" if kind == "triton" else None

    def make_convolution(case: Case) -> Callable[..., Any]:
        padding = [(case.kernel // 2, case.kernel // 2)] * 2
        if kind == "lax":
            return lambda x, w: lax.conv_general_dilated(
                x,
                w,
                (case.strides,) * 2,
                padding,
                feature_group_count=case.channels if case.op == "depthwise" else 1,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
        if case.op == "depthwise":
            return lambda x, w: kernels.depthwise_conv(
                x, w, strides=case.strides, padding=padding, implementation=implementation
            )
        algo = "auto" if kind in ("ours", "triton") else kind
        return lambda x, w: kernels.conv(x, w, strides=case.strides, padding=padding, algo=algo)

    def make_pointwise(case: Case) -> Callable[..., Any]:
        if case.op == "bias_act":
            if kind == "lax":
                act = jax.nn.silu if case.act == "silu" else lambda y: jnp.maximum(y, 0)
                return lambda x, w: act(x + w)
            return lambda x, w: kernels.bias_act(x, w, case.act, implementation=implementation)
        if kind != "lax":
            return lambda x, scale, bias: kernels.batch_norm(
                x, scale, bias, act=case.act, implementation=implementation
            )[0]

        def batch_norm_relu(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
            x32 = x.astype(jnp.float32)
            mean, var = x32.mean((0, 1, 2)), x32.var((0, 1, 2))
            y = (x32 - mean) * lax.rsqrt(var + 1e-5) * scale + bias
            return jnp.maximum(y, 0).astype(x.dtype)

        return batch_norm_relu

    def make_pass(op: Callable[..., Any], pass_name: str) -> Callable[..., Any]:
        if pass_name == "forward":
            return op
        if pass_name == "input gradient":
            return lambda x, w, dy: jax.vjp(lambda x: op(x, w), x)[1](dy)
        if pass_name == "weight gradient":
            return lambda x, w, dy: jax.vjp(lambda w: op(x, w), w)[1](dy)
        if not device.gpu:
            return lambda *operands: jax.vjp(op, *operands[:-1])[1](operands[-1])

        def forward_backward(*operands: Any) -> Any:
            y, pullback = jax.vjp(op, *operands[:-1])
            return y, pullback(operands[-1])  # y, too: in a model the next layer takes it

        return forward_backward

    def prepare_rate(workload: str) -> Call:
        size = device.copy_size if workload == COPY else (device.product_size,) * 2
        a = jax.device_put(np.random.default_rng(0).random(size=size, dtype=np.float32))
        if workload == PRODUCT:
            # A GPU's default would be TF32, on units that only matrix products can use.
            precision = "highest" if gpu else None
            return jax.jit(lambda a: jnp.matmul(a, a, precision=precision)), (a,)
        negate, array = jax.jit(jnp.negative, donate_argnums=0), [a]

        # In place: in fresh memory the first access to each page would cost time.
        def negate_in_place() -> jax.Array:
            array[0] = negate(array[0])
            return array[0]

        return negate_in_place, ()

    def prepare(workload: str) -> Call:
        if workload in (COPY, PRODUCT):
            return prepare_rate(workload)
        case, pass_name = decode_workload(workload)
        operands = [
            jax.device_put(a.astype(jnp.dtype(dtype), copy=False))
            for a, dtype in zip(make_operands(case, pass_name), case.dtypes, strict=False)
        ]
        op = make_convolution(case) if case.kernel else make_pointwise(case)
        # Calls of jit's function are dispatched in C++, those of an AOT-compiled one in Python.
        return jit(make_pass(op, pass_name)), operands

    versions = {"jax": jax.__version__}
    if device.gpu:
        client = jax_device.client.platform_version.split()
        versions |= {"device": jax_device.device_kind, "runtime": " ".join(client)}
    tracer = device_time.jax_tracer(device.platform) if clock == "profiler" else None
    _serve(device, prepare, jax.block_until_ready, jnp.copy, versions, tracer)


def _run_torch(device: DeviceSettings, clock: str, compiled: bool) -> None:
    """Runs PyTorch, eager or compiled, channels_last."""
    import torch

    nn = torch.nn.functional
    gpu = device.platform == "cuda"
    if gpu and not torch.cuda.is_available():
        raise SystemExit(f"torch {torch.__version__} sees no NVIDIA GPU")
    torch.backends.cudnn.benchmark = gpu  # else only cuDNN's first guess is tried

    def compile_if_asked(f: Callable[..., Any]) -> Callable[..., Any]:
        if not compiled:
            return f
        torch.compiler.reset()  # after 8 shapes of the same code it would stay eager
        compiled_f: Callable[..., Any] = torch.compile(f, dynamic=False, fullgraph=True)
        return compiled_f

    def make_tensors(case: Case, pass_name: str) -> Iterator[Any]:
        image_axes, kernel_axes = (0, 3, 1, 2), (3, 2, 0, 1)
        for i, array in enumerate(make_operands(case, pass_name)):
            t = torch.from_numpy(array).to(device.platform, getattr(torch, case.dtypes[i]))
            if t.ndim == 4:
                t = t.permute(kernel_axes if i == 1 else image_axes)
                t = t.contiguous(memory_format=torch.channels_last)
            yield t

    def make_convolution(case: Case, pass_name: str) -> Callable[..., Any]:
        groups = case.channels if case.op == "depthwise" else 1
        geometry = [case.strides] * 2, [case.kernel // 2] * 2, [1, 1]
        if pass_name == "forward":
            return lambda x, w: nn.conv2d(x, w, None, *geometry, groups)
        mask = [pass_name == "input gradient", pass_name == "weight gradient", False]
        backward = torch.ops.aten.convolution_backward
        return lambda x, w, dy: backward(dy, x, w, None, *geometry, False, [0, 0], groups, mask)

    def make_pointwise(case: Case, pass_name: str) -> Callable[..., Any]:
        act = getattr(nn, case.act)

        def forward(x: Any, *vectors: Any) -> Any:
            if case.op == "bias_act":
                return act(x + vectors[0][:, None, None])
            scale, bias = vectors
            return act(nn.batch_norm(x, None, None, scale, bias, training=True))

        run_forward = compile_if_asked(forward)
        if pass_name == "forward":
            return run_forward

        def forward_backward(*operands: Any) -> Any:
            y = run_forward(*operands[:-1])
            return y, torch.autograd.grad(y, operands[:-1], operands[-1])

        return forward_backward

    def prepare_rate(workload: str) -> Call:
        if not device.gpu:  # a CPU's rates are measured by jax
            return lambda: None, ()
        size = (device.copy_size,) if workload == COPY else (device.product_size,) * 2
        a = torch.rand(size, device=device.platform)
        if workload == PRODUCT:
            return torch.matmul, (a, a)  # in float32: PyTorch's default here is no TF32
        b = torch.empty_like(a)
        return b.copy_, (a,)

    def prepare(workload: str) -> Call:
        if gpu:
            torch.cuda.empty_cache()
        if workload in (COPY, PRODUCT):
            return prepare_rate(workload)
        case, pass_name = decode_workload(workload)
        operands = list(make_tensors(case, pass_name))
        if case.kernel:
            return compile_if_asked(make_convolution(case, pass_name)), operands
        for operand in operands[:-1] if pass_name != "forward" else ():
            operand.requires_grad_()
        return make_pointwise(case, pass_name), operands

    def copy(t: Any) -> Any:
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
    _serve(device, prepare, wait, copy, versions, tracer)
