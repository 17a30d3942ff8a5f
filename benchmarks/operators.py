"""How fast the operators are, pass by pass, beside lax and PyTorch, and how fast they could be.

    python -m benchmarks.operators [--peers lax,torch] [--json FILE] [--plot FILE.png]

PyTorch (channels_last) needs the extra `peers`. `--jax-python` runs all of jax under another
environment's Python. `--options` compiles ours with `kernels.jit`, too. `--algorithms direct,gemm`
compares algorithms of dense convolution with each other instead (winograd: `--only 3x3,`).

The limit of a pass is the larger of its bytes over the bandwidth of a copy and its operations over
the rate of a matrix product, both measured in the same run; what stays in a cache can beat it.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import alternate

ROOT = Path(__file__).parent.parent


class Case(NamedTuple):
    """One operator on one shape. `kernel` 0 stands for an operator without one."""

    op: str
    where: str
    batch: int
    size: int
    channels: int
    out: int
    kernel: int = 0
    strides: int = 1

    def __str__(self) -> str:
        if not self.kernel:
            return f"{self.op}: {self.batch}x{self.size}x{self.size}x{self.channels}"
        wide = self.channels if self.channels == self.out else f"{self.channels}→{self.out}"
        stride = f" s{self.strides}" if self.strides > 1 else ""
        return f"{self.where}: {self.kernel}x{self.kernel}{stride}, {self.size}²x{wide}"

    @property
    def passes(self) -> tuple[str, ...]:
        """What is timed."""
        if self.kernel:
            return "forward", "input gradient", "weight gradient"
        return "forward", "forward and backward"

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Of x, of the weights, and of y."""
        x = (self.batch, self.size, self.size, self.channels)
        if not self.kernel:
            return x, (self.channels,), x
        inputs = 1 if self.op == "depthwise" else self.channels
        size = (self.size - 1) // self.strides + 1
        return x, (self.kernel, self.kernel, inputs, self.out), (self.batch, size, size, self.out)

    def cost(self, pass_: str) -> tuple[float, float]:
        """(bytes that must move, operations) of a pass, in float32."""
        x, w, y = (math.prod(shape) for shape in self.shapes)
        if self.kernel:
            inputs = self.shapes[1][2]
            return 4.0 * (x + w + y), 2.0 * y * self.kernel**2 * inputs
        reads = {"bias_act": (2, 5), "batch_norm": (3, 8)}[self.op]
        return 4.0 * x * reads[pass_ != "forward"], 0.0


def _depthwise(where: str, size: int, channels: int, kernel: int, strides: int = 1) -> Case:
    return Case("depthwise", where, 4, size, channels, channels, kernel, strides)


def _dense(size: int, channels: int, out: int, kernel: int, strides: int = 1) -> Case:
    return Case("conv", "ResNet-50", 4, size, channels, out, kernel, strides)


CASES = (
    _depthwise("MobileNetV2", 112, 32, 3),
    _depthwise("MobileNetV2", 112, 96, 3, 2),
    _depthwise("MobileNetV2", 56, 144, 3),
    _depthwise("MobileNetV2", 14, 576, 3),
    _depthwise("MobileNetV2", 7, 960, 3),
    _depthwise("Xception", 147, 128, 3),
    _depthwise("Xception", 37, 728, 3),
    _depthwise("Xception", 19, 728, 3),
    _depthwise("EfficientNet-Lite", 56, 144, 5, 2),
    _depthwise("EfficientNet-Lite", 28, 240, 5),
    _depthwise("EfficientNet-Lite", 14, 672, 5),
    _depthwise("EfficientNet-Lite", 7, 1152, 5),
    _depthwise("ConvNeXt", 56, 96, 7),
    _depthwise("ConvNeXt", 14, 384, 7),
    _depthwise("ConvNeXt", 7, 768, 7),
    _depthwise("RepLKNet", 56, 128, 31),
    _depthwise("RepLKNet", 28, 256, 29),
    _dense(224, 3, 64, 7, 2),
    _dense(56, 64, 64, 1),
    _dense(56, 64, 256, 1),
    _dense(56, 256, 64, 1),
    _dense(56, 256, 512, 1, 2),
    _dense(14, 1024, 256, 1),
    _dense(56, 64, 64, 3),
    _dense(28, 128, 128, 3),
    _dense(14, 256, 256, 3),
    _dense(7, 512, 512, 3),
    _dense(56, 128, 128, 3, 2),
    *(
        Case(op, "", batch, size, channels, channels)
        for op in ("bias_act", "batch_norm")
        for batch, size, channels in (
            (10, 224, 100),
            (4, 112, 64),
            (4, 56, 256),
            (4, 14, 1024),
            (4, 7, 2048),
        )
    ),
)
COPY, PRODUCT = "copy", "product"
COPIED, MULTIPLIED = 2**24, 1536  # floats; rows and columns


def arrays(case: Case) -> list[np.ndarray]:
    """x, the weights and dy."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(np.float32) for shape in case.shapes]


def jax_worker(kind: str) -> None:
    """Ours, ours with compiler options, one of our algorithms, or lax."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    import kernels

    kind, _, options = kind.partition(", ")
    jit = kernels.jit if options else jax.jit

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
            return lambda x, w: kernels.depthwise_conv(x, w, strides=case.strides, padding=pads)
        algo = "auto" if kind == "ours" else kind
        return lambda x, w: kernels.conv(x, w, strides=case.strides, padding=pads, algo=algo)

    def pointwise(case: Case) -> Callable[..., Any]:
        if case.op == "bias_act":
            if kind == "lax":
                return lambda x, w: jnp.maximum(x + w, 0)
            return lambda x, w: kernels.bias_act(x, w, "relu")
        if kind != "lax":
            return lambda x, w: kernels.batch_norm(x, w, w, act="relu")[0]

        def plain(x: jax.Array, w: jax.Array) -> jax.Array:
            mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
            return jnp.maximum((x - mean) * lax.rsqrt(var + 1e-5) * w + w, 0)

        return plain

    def prepare(job: str) -> Callable[[], Any]:
        if job in (COPY, PRODUCT):
            size = COPIED if job == COPY else (MULTIPLIED, MULTIPLIED)
            a = jax.device_put(np.random.default_rng(0).normal(size=size).astype(np.float32))
            if job == PRODUCT:
                product = jax.jit(lambda a: a @ a)
                return lambda: product(a).block_until_ready()
            copy, place = jax.jit(jnp.negative, donate_argnums=0), [a]

            def again() -> None:  # in place: fresh memory would cost the first touch of its pages
                place[0] = copy(place[0]).block_until_ready()

            return again
        case, pass_ = _find(job)
        x, w, dy = (jax.device_put(a) for a in arrays(case))
        op = operator(case) if case.kernel else pointwise(case)
        call: Callable[..., Any] = op
        operands: tuple[Any, ...] = (x, w)
        if pass_ == "input gradient":
            call, operands = lambda x, w, dy: jax.vjp(lambda x: op(x, w), x)[1](dy), (x, w, dy)
        elif pass_ == "weight gradient":
            call, operands = lambda x, w, dy: jax.vjp(lambda w: op(x, w), w)[1](dy), (x, w, dy)
        elif pass_ != "forward":
            call, operands = lambda x, w, dy: jax.vjp(op, x, w)[1](dy), (x, w, dy)
        compiled = jit(call)  # its own call, unlike that of an AOT-compiled one, is all in C++
        return lambda: jax.block_until_ready(compiled(*operands))

    alternate.serve(prepare, {"jax": jax.__version__, "python": sys.version.split()[0]})


def torch_worker() -> None:
    """PyTorch, eager, channels_last."""
    import torch

    nn = torch.nn.functional

    def tensor(a: np.ndarray, order: tuple[int, ...]) -> Any:
        t = torch.from_numpy(a).permute(order)
        return t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t

    def convolution(case: Case, pass_: str) -> Callable[[], Any]:
        operands = zip(arrays(case), ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)), strict=True)
        x, w, dy = (tensor(a, order) for a, order in operands)
        groups = case.channels if case.op == "depthwise" else 1
        geometry = [case.strides] * 2, [case.kernel // 2] * 2, [1, 1]
        if pass_ == "forward":
            return lambda: nn.conv2d(x, w, None, *geometry, groups)
        wanted = [pass_ == "input gradient", pass_ == "weight gradient", False]
        backward = torch.ops.aten.convolution_backward
        return lambda: backward(dy, x, w, None, *geometry, False, [0, 0], groups, wanted)

    def pointwise(case: Case, pass_: str) -> Callable[[], Any]:
        operands = zip(arrays(case), ((0, 3, 1, 2), (0,), (0, 3, 1, 2)), strict=True)
        x, w, dy = (tensor(a, order) for a, order in operands)

        def forward() -> Any:
            if case.op == "bias_act":
                return nn.relu(x + w[:, None, None])
            return nn.relu(nn.batch_norm(x, None, None, w, w, training=True))

        if pass_ == "forward":
            return forward
        x.requires_grad_()
        w.requires_grad_()
        return lambda: torch.autograd.grad(forward(), (x, w), dy)

    def prepare(job: str) -> Callable[[], Any]:
        if job in (COPY, PRODUCT):
            return lambda: None
        case, pass_ = _find(job)
        return (convolution if case.kernel else pointwise)(case, pass_)

    alternate.serve(prepare, {"torch": torch.__version__, "python": sys.version.split()[0]})


def _find(job: str) -> tuple[Case, str]:
    number, pass_ = job.split(" ", 1)
    return CASES[int(number)], pass_


def candidates(options: argparse.Namespace) -> dict[str, list[str]]:
    """Name → command of each process."""
    own = options.algorithms.split(",") if options.algorithms else ["ours"]
    names = [name + with_ for with_ in ("", ", options")[: 1 + options.options] for name in own]
    if not options.algorithms:
        names += [peer for peer in options.peers.split(",") if peer]
    pythons = {name: sys.executable if name == "torch" else options.jax_python for name in names}
    return {name: [pythons[name], "-m", "benchmarks.operators", "--worker", name] for name in names}


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each pass of each case; the first two are the machine's own rates."""
    chosen = [
        (i, case)
        for i, case in enumerate(CASES)
        if options.only in f"{case.op} {case}" and (not options.algorithms or case.op == "conv")
    ]
    jobs = [(case, pass_, f"{i} {pass_}") for i, case in chosen for pass_ in case.passes]
    timings = alternate.compare(
        candidates(options),
        options.rounds,
        [COPY, PRODUCT, *(job for _, _, job in jobs)],
        longest=12,
    )
    first = next(iter(candidates(options)))
    bandwidth = 8 * COPIED / next(timings)[first].median
    rate = 2 * MULTIPLIED**3 / next(timings)[first].median
    yield {"bandwidth": bandwidth, "rate": rate}
    for (case, pass_, _), timing in zip(jobs, timings, strict=True):
        moved, operations = case.cost(pass_)
        yield {
            "op": case.op,
            "case": str(case),
            "pass": pass_,
            "limit": max(moved / bandwidth, operations / rate),
            "seconds": {name: t._asdict() for name, t in timing.items()},
        }


def show(row: Mapping[str, Any]) -> str:
    """One row as a line: milliseconds, with half the range between the quartiles."""
    cells = [
        f"{1e3 * t['median']:11.2f} ±{500 * (t['upper'] - t['lower']):5.2f}"
        for t in row["seconds"].values()
    ]
    return f"{row['case']:36}{row['pass']:21}{''.join(cells)}{1e3 * row['limit']:9.2f}"


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Geometric means of each peer's time over ours, by operator and pass."""
    out = []
    for key in dict.fromkeys((row["op"], row["pass"]) for row in rows):
        seconds = [row["seconds"] for row in rows if (row["op"], row["pass"]) == key]
        for ours in (name for name in seconds[0] if name.startswith("ours")):
            for peer in (name for name in seconds[0] if not name.startswith("ours")):
                ratios = [s[peer]["median"] / s[ours]["median"] for s in seconds]
                out.append(
                    {
                        "op": key[0],
                        "pass": key[1],
                        "of": ours,
                        "peer": peer,
                        "times_as_fast": float(np.exp(np.mean(np.log(ratios)))),
                        "worst": min(ratios),
                    }
                )
    return out


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Milliseconds of every case, one panel a pass of the depthwise convolution."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = [row for row in rows if row["op"] == "depthwise"]
    passes = list(dict.fromkeys(row["pass"] for row in rows))
    figure, axes = plt.subplots(1, len(passes), figsize=(5 * len(passes), 6), sharey=True)
    for axis, pass_ in zip(np.atleast_1d(axes), passes, strict=True):
        own = [row for row in rows if row["pass"] == pass_]
        places = np.arange(len(own))
        names = list(own[0]["seconds"])
        for i, name in enumerate(names):
            values = [1e3 * row["seconds"][name]["median"] for row in own]
            axis.barh(
                places + (i + 0.5) / (len(names) + 1) - 0.5, values, 0.8 / len(names), label=name
            )
        axis.plot([1e3 * row["limit"] for row in own], places, "k|", ms=14, label="limit")
        axis.set(title=pass_, xscale="log", xlabel="ms", yticks=places)
        axis.set_yticklabels([row["case"] for row in own])
    np.atleast_1d(axes)[0].invert_yaxis()
    np.atleast_1d(axes)[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measures, prints a table, and writes JSON and a plot where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", default="lax", help="of lax and torch, joined by a comma")
    parser.add_argument("--options", action="store_true", help="ours with compiler options, too")
    parser.add_argument("--algorithms", help="compare these instead, joined by a comma")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--jax-python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return torch_worker() if options.worker == "torch" else jax_worker(options.worker)
    os.chdir(ROOT)
    measured = measure(options)
    machine = next(measured)
    print(
        f"{alternate.device()}; copy {machine['bandwidth'] / 1e9:.1f} GB/s, "
        f"matrix product {machine['rate'] / 1e9:.0f} GFLOP/s; ms, ± half the interquartile range"
    )
    print(f"{'':57}{''.join(f'{name:>18}' for name in candidates(options))}    limit")
    rows = []
    for row in measured:
        rows.append(row)
        print(show(row), flush=True)
    for line in summary(rows):
        print(
            f"{line['op']:12}{line['pass']:22}{line['of']} {line['times_as_fast']:.2f} times as "
            f"fast as {line['peer']} (at worst {line['worst']:.2f})"
        )
    if options.json:
        record = {
            "device": alternate.device(),
            "command": "python -m benchmarks.operators " + " ".join(_repeatable(sys.argv[1:])),
            **machine,
            "rows": rows,
            "summary": summary(rows),
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        plot(rows, options.plot)
    return None


def _repeatable(arguments: list[str]) -> list[str]:
    """The arguments without this machine's paths."""
    return [a if os.sep not in a else Path(a).name for a in arguments]


if __name__ == "__main__":
    main()
