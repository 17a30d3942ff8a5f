"""Convolution by XLA: which algorithm runs each pass, where the caller leaves the choice open."""

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jax import lax

from kernels import dispatch
from kernels.bilinear import FORWARD, INPUT_GRAD, WEIGHT_GRAD, Static
from kernels.window import Window
from kernels.xla import depthwise, fft, gemm, groups, linear, winograd

Passes = Mapping[str, linear.Forward]


class Row(NamedTuple):
    """One line of the table: the algorithm for windows of at most so many taps and outputs."""

    platform: str
    steps: tuple[str, ...]
    taps: float
    outputs: float
    algo: str


# The first row that fits decides; where none fits, "direct" does.
# Measured on 2 cores of an AMD EPYC with jax 0.10.2 and 0.12.0 on the convolutions of ResNet-50
# (float32, batch 4; `python -m benchmarks.operators --algorithms`), milliseconds on 0.12.0,
# direct → gemm: weight gradient of 1x1 64→256 at 56² 24.8 → 8.1, of 3x3 256 at 14² 30.3 → 18.9,
# of 7x7 3→64 at 224² 26.0 → 17.8; input gradient of 3x3 512 at 7² 28.4 → 8.7, of 3x3 256 at 14²
# 14.6 → 8.9, but of 3x3 64 at 56² 10.7 → 12.8. Winograd and FFT won nowhere: XLA makes several
# passes over memory of their transforms.
TABLE = (
    Row("cpu", (FORWARD, INPUT_GRAD, WEIGHT_GRAD), taps=1, outputs=math.inf, algo="gemm"),
    Row("cpu", (WEIGHT_GRAD,), taps=121, outputs=math.inf, algo="gemm"),
    Row("cpu", (INPUT_GRAD,), taps=9, outputs=196, algo="gemm"),
)


def choose(platform: str, step: str, window: Window) -> str:
    """The algorithm for one pass on one platform, by TABLE."""
    taps, outputs = math.prod(window.kernel), math.prod(window.out)
    return next(
        (
            row.algo
            for row in TABLE
            if row.platform == platform
            and step in row.steps
            and taps <= row.taps
            and outputs <= row.outputs
        ),
        "direct",
    )


def _direct_on_cpu(static: Static, x: jax.Array, w: jax.Array) -> jax.Array:
    """Steps around a trap: without any padding jax 0.10's CPU takes a path 3 to 25 times slower.

    So a row of zeros is added below, and what outputs it makes are dropped.
    """
    window = static.window
    if any(map(any, window.padding)) or window.kernel == (1, 1):
        return linear.direct(static, x, w)
    padded = static._replace(window=window.padded(bottom=1))
    return linear.direct(padded, x, w)[:, : window.out[0]]


def _passes(module: Any) -> Passes:
    return {
        FORWARD: module.forward,
        INPUT_GRAD: module.input_grad,
        WEIGHT_GRAD: module.weight_grad,
    }


DIRECT_ON_CPU: Passes = {
    step: linear.accumulating(pass_)
    for step, pass_ in {**linear.DIRECT, FORWARD: _direct_on_cpu}.items()
}
DENSE: Mapping[str, Passes] = {
    "gemm": _passes(gemm),
    "winograd": _passes(winograd),
    "fft": _passes(fft),
}


def _run(platform: str, step: str, static: Static, a: jax.Array, b: jax.Array) -> jax.Array:
    window, algo = static.window, static.algo
    if algo == "auto":
        algo = choose(platform, step, window)
    if algo != "direct":
        return groups.dense(step, DENSE[algo][step], static, a, b)
    if platform != "cpu":
        return linear.DIRECT[step](static, a, b)
    if window.groups > 1 and window.groups == window.channels:
        return depthwise.ON_CPU[step](static, a, b)
    return groups.dense(step, DIRECT_ON_CPU[step], static, a, b)


def _pass(step: str) -> linear.Forward:
    def run(static: Static, a: jax.Array, b: jax.Array) -> jax.Array:
        return lax.platform_dependent(
            a,
            b,
            cpu=functools.partial(_run, "cpu", step, static),
            default=functools.partial(_run, "other", step, static),
        )

    return run


def refuses(static: Static, *arrays: jax.Array) -> str | None:
    """Why the call cannot be done, or None."""
    return winograd.refuses(static) if static.algo == "winograd" else None


def describe(step: str, static: Static, *arrays: jax.Array) -> str:
    """Which algorithm a pass takes, and where."""
    if static.algo != "auto":
        return f"{static.algo}, as requested"
    return f"{choose('cpu', step, static.window)} on a CPU, direct elsewhere"


IMPLEMENTATION = dispatch.Implementation(
    "xla",
    {step: _pass(step) for step in (FORWARD, INPUT_GRAD, WEIGHT_GRAD)},
    refuses=refuses,
    describe=describe,
)
