"""Convolution by XLA: which algorithm runs each pass, where the caller leaves the choice open."""

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jax import lax

from kernels import compiler, dispatch
from kernels.bilinear import FORWARD, INPUT_GRAD, WEIGHT_GRAD, Static
from kernels.window import Window
from kernels.xla import depthwise, fft, gemm, groups, linear, winograd

Passes = Mapping[str, linear.Forward]


class Row(NamedTuple):
    """One line of the table.

    Args:
      steps: the passes it is for.
      algo: the algorithm that they take
      taps: … for kernels of at least and at most so many taps,
      outputs: … and at most so many rows times columns of outputs,
      before: … with an older jax than this,
      optimised: … compiled with or without `compiler_options`; None for both.
    """

    steps: tuple[str, ...]
    algo: str
    taps: tuple[float, float]
    outputs: float = math.inf
    before: tuple[float, ...] = (math.inf,)
    optimised: bool | None = None


# For each platform; the first row that fits decides, and where none fits, "direct" does.
#
# Measured on 2 cores of an AMD EPYC with jax 0.10.2 and 0.12.0 on the convolutions of ResNet-50, by
# `python -m benchmarks.operators --algorithms direct,gemm --options` (float32, batch 4). In
# milliseconds, direct → gemm on 0.10.2; on 0.12.0; on 0.12.0 with `compiler_options`:
#   1x1 64→256, 56², weight gradient   29.9 →  4.6   15.3 →  5.2   12.8 →  4.5
#                    forward            4.8 →  3.7    2.6 →  3.9    2.6 →  3.7
#                    input gradient     5.2 →  2.8    2.7 →  3.0    2.9 →  3.7
#   3x3 512, 7²,     forward           13.3 →  5.6    9.2 →  5.8   10.5 → 11.1
#                    input gradient    12.3 →  6.4   14.1 →  9.9   14.4 →  6.3
#                    weight gradient   18.1 → 11.4    9.6 →  8.5    7.9 → 10.7
#   3x3 256, 14²,    forward            7.9 → 10.0    6.1 → 10.2    8.7 →  5.9
#                    input gradient     8.6 →  5.8    6.9 →  9.5    5.5 →  6.2
#                    weight gradient   15.3 → 10.5   11.9 →  9.0    7.4 → 13.7
#   3x3 128, 28²,    weight gradient   12.6 → 15.7   15.7 → 17.2    7.6 → 17.3
#   7x7 3→64, 112²,  weight gradient   33.1 → 13.7   20.3 → 14.8   18.4 → 22.6
# Winograd and FFT won nowhere: XLA makes several passes over memory of their transforms.
TABLE = {
    "cpu": (
        Row((WEIGHT_GRAD,), "gemm", taps=(1, 1)),
        Row((FORWARD, INPUT_GRAD), "gemm", taps=(1, 1), before=(0, 11), optimised=False),
        Row((FORWARD, INPUT_GRAD), "gemm", taps=(2, 9), outputs=49),
        Row((WEIGHT_GRAD,), "gemm", taps=(2, 9), outputs=196, optimised=False),
        Row((WEIGHT_GRAD,), "gemm", taps=(25, 49), optimised=False),
    )
}


def choose(platform: str, step: str, window: Window) -> str:
    """The algorithm for one pass on one platform, by TABLE."""
    if window.groups == window.channels > 1:
        return "direct"  # depthwise
    taps, outputs = math.prod(window.kernel), math.prod(window.out)
    for row in TABLE.get(platform, ()):
        fits = step in row.steps and row.taps[0] <= taps <= row.taps[1] and outputs <= row.outputs
        here = jax.__version_info__ < row.before and row.optimised in (None, compiler.optimised())
        if fits and here:
            return row.algo
    return "direct"


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
    return groups.direct(step, DIRECT_ON_CPU[step], static, a, b)


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
