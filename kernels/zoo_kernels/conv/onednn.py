"""Grouped convolution by oneDNN, which XLA calls on a CPU where an option lets it.

oneDNN serves ordinary convolutions, so the gradients are written as such: of dy with parts of the
flipped kernel, and of x with dy as the kernel.

3x3 in 32 groups, batch 8, on 2 cores of an AMD EPYC with jax 0.12.0, in milliseconds, a loop of
dense convolutions (`grouped`) → oneDNN:
                           forward     input gradient   weight gradient
  128, 56²                18.7 → 5.0    21.4 → 4.6        48.0 → 24.4 (but batch 1: 3.1 → 32.3)
  256, 56², strides of 2  42.7 → 5.2    22.5 → 6.6        52.1 → 19.6
  256, 28²                12.2 → 2.1    11.0 → 2.1        16.8 →  6.3
  512, 14²                 9.8 → 1.1     7.2 → 1.2         7.3 →  3.1
"""

import jax

from zoo_kernels.conv import grouped
from zoo_kernels.core import cpu, dispatch, jax_compat, onednn, subpixel
from zoo_kernels.core.linear_vjp import FORWARD, INPUT_GRAD, WEIGHT_GRAD, ConvSpec

# The least number of channels a group that makes its weight gradient worth it.
MIN_CHANNELS = 8


def _forward(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """(x, w) → y."""
    window = spec.window
    return onednn.correlate(x, w, window.strides, window.padding, window.dilation, x.dtype)


def _input_grad(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """(dy, w) → dx: a convolution that swaps inputs and outputs in each group."""
    window = spec.window
    kh, kw, inputs, outputs = w.shape
    by_group = w.reshape(kh, kw, inputs, window.groups, outputs // window.groups)
    taps = by_group.transpose(0, 1, 4, 3, 2).reshape(kh, kw, -1, window.channels)
    return subpixel.input_grad(window, dy, taps, (window.channels,), onednn.correlate)


def _weight_grad(spec: ConvSpec, x: jax.Array, dy: jax.Array) -> jax.Array:
    """(x, dy) → dw: with dy as the kernel. A group's images become its channels, to be summed."""
    window = spec.window
    by_group = x.reshape(*x.shape[:3], window.groups, -1).transpose(4, 1, 2, 3, 0)
    transposed = by_group.reshape(-1, *window.size, window.groups * x.shape[0])
    # The barrier keeps XLA from reading the transposed array out of x, which oneDNN does not.
    dw = onednn.correlate(
        jax_compat.barrier(transposed),
        dy.transpose(1, 2, 0, 3),
        window.dilation,
        grouped.weight_padding(window),
        window.strides,
        x.dtype,
    )
    return dw.transpose(1, 2, 0, 3)


def _unsupported(spec: ConvSpec, *arrays: jax.Array) -> str | None:
    window = spec.window
    if spec.algo not in ("auto", "direct"):
        return f"is direct, not {spec.algo}"
    if window.groups in (1, window.channels):
        return "takes more than one group, of more than one channel"
    return onednn.unsupported(arrays[0])


def _defers(pass_name: str, spec: ConvSpec, *arrays: jax.Array) -> str | None:
    if cpu.count_devices() > 1:
        return "makes XLA gather images that are sharded over devices"
    channels = min(x.shape[3] for x in arrays) // spec.window.groups
    if pass_name == WEIGHT_GRAD and channels < MIN_CHANNELS:
        return f"is slower at weight gradients of less than {MIN_CHANNELS} channels a group"
    return None


IMPLEMENTATION = dispatch.Implementation(
    "onednn",
    {FORWARD: _forward, INPUT_GRAD: _input_grad, WEIGHT_GRAD: _weight_grad},
    platforms=("cpu",),
    unsupported=_unsupported,
    defers=_defers,
)
