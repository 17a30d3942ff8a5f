"""Convolution by XLA: which algorithm runs each pass, where the caller leaves the choice open."""

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from zoo_kernels.conv import fft, gemm, winograd
from zoo_kernels.conv import grouped as groups
from zoo_kernels.core import compiler, dispatch, linear
from zoo_kernels.core.linear_vjp import FORWARD, INPUT_GRAD, WEIGHT_GRAD, ConvSpec
from zoo_kernels.core.window import Window
from zoo_kernels.depthwise_conv import cpu as depthwise

Passes = Mapping[str, linear.Forward]


class Row(NamedTuple):
    """One line of the table.

    Args:
      passes: the passes it is for.
      algo: the algorithm that they take
      taps: … for kernels of at least and at most so many taps,
      outputs: … at least and at most so many rows times columns of outputs,
      narrowest: … of which at least and at most so many channels, or as many inputs where they are
        fewer,
      values: … and at least so many values an image, outputs times the narrowest,
      before, since: … with a jax older than the one, and not older than the other,
      optimised: … compiled with or without `compiler_options`; None for both.
    """

    passes: tuple[str, ...]
    algo: str
    taps: tuple[float, float]
    outputs: tuple[float, float] = (0, math.inf)
    narrowest: tuple[float, float] = (0, math.inf)
    values: float = 0
    before: tuple[float, ...] = (math.inf,)
    since: tuple[float, ...] = (0,)
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
# The same of larger weight gradients, batch 8, with `compiler_options`, on 0.10.2; on 0.12.0:
#   3x3 3→64, 224²                     56.6 → 24.9    111 → 21.4
#   3x3 32→64, 147²                    70.2 → 84.0    146 → 80.9
#   3x3 64, 224²                        263 →  496    684 →  360
#   3x3 128, 112²                       191 →  275    475 →  239
#   3x3 256, 56²                        163 →  229    229 →  184
#   3x3 512, 28²                        152 →  195    232 →  167
#   3x3 64, 56²                        13.3 → 21.6   12.9 → 17.1
#   3x3 128→32, 56²                    14.4 → 21.9   12.8 → 38.0
# Winograd and FFT won nowhere: XLA makes several passes over memory of their transforms.
TABLE = {
    "cpu": (
        Row((WEIGHT_GRAD,), "gemm", taps=(1, 1)),
        Row((FORWARD, INPUT_GRAD), "gemm", taps=(1, 1), before=(0, 11), optimised=False),
        Row((FORWARD, INPUT_GRAD), "gemm", taps=(2, 9), outputs=(0, 49)),
        Row((WEIGHT_GRAD,), "gemm", taps=(2, 9), outputs=(0, 196), optimised=False),
        Row((WEIGHT_GRAD,), "gemm", taps=(25, 49), optimised=False),
        Row((WEIGHT_GRAD,), "gemm", taps=(2, 9), narrowest=(1, 4), outputs=(160**2, math.inf)),
        Row((WEIGHT_GRAD,), "gemm", taps=(2, 9), values=300_000, since=(0, 11)),
    )
}


def choose(platform: str, pass_name: str, window: Window, outputs: int) -> str:
    """The algorithm for one pass on one platform, by TABLE; `outputs` is the number of channels."""
    if window.groups == window.channels > 1:
        return "direct"  # depthwise
    for row in TABLE.get(platform, ()):
        if pass_name in row.passes and _fits(row, window, min(window.channels, outputs)):
            return row.algo
    return "direct"


def _fits(row: Row, window: Window, narrowest: int) -> bool:
    places = math.prod(window.out)
    return (
        row.taps[0] <= math.prod(window.kernel) <= row.taps[1]
        and row.outputs[0] <= places <= row.outputs[1]
        and row.narrowest[0] <= narrowest <= row.narrowest[1]
        and row.values <= places * narrowest
        and row.since <= jax.__version_info__ < row.before
        and row.optimised in (None, compiler.optimised())
    )


def _outputs(pass_name: str, a: jax.Array, b: jax.Array) -> int:
    """How many channels a pass's y has."""
    return (a if pass_name == INPUT_GRAD else b).shape[3]


def _direct_on_cpu(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """Steps around a trap: without any padding jax 0.10's CPU takes a path 3 to 25 times slower.

    So a row of zeros is added below, and what outputs it makes are dropped. oneDNN has no such
    trap, and adds a bias and an activation to outputs that are whole.
    """
    window = spec.window
    if any(map(any, window.padding)) or window.kernel == (1, 1) or compiler.onednn():
        return linear.direct(spec, x, w)
    padded = spec._replace(window=window.padded(bottom=1))
    return linear.direct(padded, x, w)[:, : window.out[0]]


def _passes(module: Any) -> Passes:
    return {
        FORWARD: module.forward,
        INPUT_GRAD: module.input_grad,
        WEIGHT_GRAD: module.weight_grad,
    }


DIRECT_ON_CPU: Passes = {
    pass_name: linear.accumulating(pass_)
    for pass_name, pass_ in {**linear.DIRECT, FORWARD: _direct_on_cpu}.items()
}
DENSE: Mapping[str, Passes] = {
    "gemm": _passes(gemm),
    "winograd": _passes(winograd),
    "fft": _passes(fft),
}
DENSE_ON_CPU: Mapping[str, Passes] = {
    **DENSE,
    "gemm": {**DENSE["gemm"], WEIGHT_GRAD: gemm.weight_grad_by_images},
}


def _run(platform: str, pass_name: str, spec: ConvSpec, a: jax.Array, b: jax.Array) -> jax.Array:
    window, algo = spec.window, spec.algo
    if algo == "auto":
        algo = choose(platform, pass_name, window, _outputs(pass_name, a, b))
    if algo != "direct":
        dense = DENSE_ON_CPU if platform == "cpu" else DENSE
        return groups.dense(pass_name, dense[algo][pass_name], spec, a, b)
    if platform != "cpu":
        return linear.DIRECT[pass_name](spec, a, b)
    if window.groups > 1 and window.groups == window.channels:
        return depthwise.ON_CPU[pass_name](spec, a, b)
    return groups.direct(pass_name, DIRECT_ON_CPU[pass_name], spec, a, b)


def _pass(pass_name: str) -> linear.Forward:
    def run(spec: ConvSpec, a: jax.Array, b: jax.Array) -> jax.Array:
        return dispatch.by_platform(
            a,
            b,
            cpu=functools.partial(_run, "cpu", pass_name, spec),
            default=functools.partial(_run, "other", pass_name, spec),
        )

    return run


def refuses(spec: ConvSpec, *arrays: jax.Array) -> str | None:
    """Why the call cannot be done, or None."""
    return winograd.refuses(spec) if spec.algo == "winograd" else None


def describe(pass_name: str, spec: ConvSpec, *arrays: jax.Array) -> str:
    """Which algorithm a pass takes, and where."""
    if spec.algo != "auto":
        return f"{spec.algo}, as requested"
    chosen = choose("cpu", pass_name, spec.window, _outputs(pass_name, *arrays))
    return f"{chosen} on a CPU, direct elsewhere"


IMPLEMENTATION = dispatch.Implementation(
    "xla",
    {pass_name: _pass(pass_name) for pass_name in (FORWARD, INPUT_GRAD, WEIGHT_GRAD)},
    refuses=refuses,
    describe=describe,
)
