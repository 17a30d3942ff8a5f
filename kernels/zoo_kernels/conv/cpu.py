"""Convolution on a CPU: a measured table chooses each pass's algorithm, if the caller does not."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from zoo_kernels.conv import gemm, grouped
from zoo_kernels.conv.xla import DENSE, PASS_NAMES, unsupported
from zoo_kernels.core import compiler, convolution, dispatch, jax_compat
from zoo_kernels.core.linear_vjp import FORWARD, INPUT_GRAD, WEIGHT_GRAD, ConvSpec
from zoo_kernels.core.window import Window
from zoo_kernels.depthwise_conv import cpu as depthwise

Range = tuple[float, float]


class AlgorithmRule(NamedTuple):
    """A line of the table: the algorithm of the passes and windows that meet all its conditions.

    Ranges include both ends.

    Args:
      passes: the names of passes.
      algo: their algorithm.
      taps: the range of a kernel's taps.
      outputs: the range of output rows times columns.
      channels: the range of the number of output channels or input channels, whichever is less.
      min_values: the least number of values an image: outputs times channels, as above.
      before, since: jax is older than the one version, and not older than the other.
      with_options: compiled with (True) or without (False) `compiler_options`; None for both.
    """

    passes: tuple[str, ...]
    algo: str
    taps: Range
    outputs: Range = (0, math.inf)
    channels: Range = (0, math.inf)
    min_values: float = 0
    before: tuple[float, ...] = (math.inf,)
    since: tuple[float, ...] = (0,)
    with_options: bool | None = None


# The first rule that fits decides; where none does, "direct" is taken.
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
# Winograd and FFT were never the fastest: XLA makes several passes over memory of their transforms.
RULES = (
    AlgorithmRule((WEIGHT_GRAD,), "gemm", taps=(1, 1)),
    AlgorithmRule((FORWARD, INPUT_GRAD), "gemm", taps=(1, 1), before=(0, 11), with_options=False),
    AlgorithmRule((FORWARD, INPUT_GRAD), "gemm", taps=(2, 9), outputs=(0, 49)),
    AlgorithmRule((WEIGHT_GRAD,), "gemm", taps=(2, 9), outputs=(0, 196), with_options=False),
    AlgorithmRule((WEIGHT_GRAD,), "gemm", taps=(25, 49), with_options=False),
    AlgorithmRule((WEIGHT_GRAD,), "gemm", taps=(2, 9), channels=(1, 4), outputs=(160**2, math.inf)),
    AlgorithmRule((WEIGHT_GRAD,), "gemm", taps=(2, 9), min_values=300_000, since=(0, 11)),
)


def choose_algorithm(pass_name: str, window: Window, outputs: int) -> str:
    """The algorithm of a pass by RULES; `outputs` is the number of output channels."""
    if window.groups == window.channels > 1:
        return "direct"  # depthwise
    channels = min(window.channels, outputs)
    fitting = (rule.algo for rule in RULES if _fits(rule, pass_name, window, channels))
    return next(fitting, "direct")


def _fits(rule: AlgorithmRule, pass_name: str, window: Window, channels: int) -> bool:
    outputs = math.prod(window.out)
    return (
        pass_name in rule.passes
        and rule.taps[0] <= math.prod(window.kernel) <= rule.taps[1]
        and rule.outputs[0] <= outputs <= rule.outputs[1]
        and rule.channels[0] <= channels <= rule.channels[1]
        and rule.min_values <= outputs * channels
        and rule.since <= jax_compat.version() < rule.before
        and rule.with_options in (None, compiler.uses_options())
    )


def _count_outputs(pass_name: str, a: jax.Array, b: jax.Array) -> int:
    """How many channels a pass's y has."""
    return (a if pass_name == INPUT_GRAD else b).shape[3]


def _direct(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """(x, w) → y by the compiler's own convolution, padded where it has no padding.

    Without any padding jax 0.10's CPU takes a path 3 to 25 times slower. So a row of zeros is added
    below, and the outputs that it makes are dropped. oneDNN has no slow path, and adds a bias and
    an activation to outputs that nothing is dropped from.
    """
    window = spec.window
    if any(map(any, window.padding)) or window.kernel == (1, 1) or compiler.uses_onednn():
        return convolution.direct(spec, x, w)
    padded = spec._replace(window=window.pad_bottom(1))
    return convolution.direct(padded, x, w)[:, : window.out[0]]


# The direct passes of dense convolutions.
_DIRECT: convolution.Passes = {
    pass_name: convolution.accumulate_in_float32(pass_)
    for pass_name, pass_ in {**convolution.DIRECT, FORWARD: _direct}.items()
}
_DENSE = {**DENSE, "gemm": {**DENSE["gemm"], WEIGHT_GRAD: gemm.weight_grad_by_images}}


def _run(pass_name: str, spec: ConvSpec, a: jax.Array, b: jax.Array) -> jax.Array:
    window, algo = spec.window, spec.algo
    if algo == "auto":
        algo = choose_algorithm(pass_name, window, _count_outputs(pass_name, a, b))
    if algo != "direct":
        return grouped.run_dense(pass_name, _DENSE[algo][pass_name], spec, a, b)
    if window.groups > 1 and window.groups == window.channels:
        return depthwise.PASSES[pass_name](spec, a, b)
    # oneDNN accumulates bfloat16 in float32 by itself, in two thirds of the time.
    if (pass_name, window.groups, a.dtype) == (FORWARD, 1, jnp.bfloat16) and compiler.uses_onednn():
        return convolution.direct(spec, a, b)
    return grouped.run_direct(pass_name, _DIRECT[pass_name], spec, a, b)


def _describe(pass_name: str, spec: ConvSpec, *arrays: jax.Array) -> str:
    if spec.algo != "auto":
        return f"{spec.algo}, as requested"
    return choose_algorithm(pass_name, spec.window, _count_outputs(pass_name, *arrays))


IMPLEMENTATION = dispatch.Implementation(
    "cpu",
    {pass_name: functools.partial(_run, pass_name) for pass_name in PASS_NAMES},
    platforms=("cpu",),
    unsupported=unsupported,
    describe=_describe,
)
