"""Grouped and depthwise convolution by oneDNN, which XLA calls on a CPU where an option lets it.

The same library as PyTorch's. It serves ordinary convolutions, so an input gradient is written as
some: of dy with parts of the turned kernel. What it does not serve of depthwise convolutions stays
a sum of shifted products: the weight gradient, and with strides the input gradient, whose phases
were measured to be no faster by oneDNN (EfficientNet-Lite's 5x5 at 56x56: 1.4 ms instead of 0.9).
Dense convolutions XLA hands over by itself.

3x3 in 32 groups, batch 8, on 2 cores of an AMD EPYC with jax 0.12.0, in milliseconds, a loop of
dense convolutions (kernels/xla/groups.py) → oneDNN:
                           forward     input gradient   weight gradient
  128, 56²                18.7 → 5.0    21.4 → 4.6        48.0 → 24.4 (but batch 1: 3.1 → 32.3)
  256, 56², strides of 2  42.7 → 5.2    22.5 → 6.6        52.1 → 19.6
  256, 28²                12.2 → 2.1    11.0 → 2.1        16.8 →  6.3
  512, 14²                 9.8 → 1.1     7.2 → 1.2         7.3 →  3.1
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from zoo_kernels.conv import grouped as groups
from zoo_kernels.core import compiler, cpu, dispatch
from zoo_kernels.core.linear_vjp import FORWARD, INPUT_GRAD, WEIGHT_GRAD, ConvSpec
from zoo_kernels.core.window import Pair
from zoo_kernels.depthwise_conv import cpu as depthwise

# Channels of a group that make its weight gradient worth it.
LEAST = 8


def _correlate(
    x: jax.Array,
    taps: jax.Array,
    strides: Pair,
    padding: tuple[Pair, Pair],
    dilation: Pair,
    dtype: jnp.dtype,
) -> jax.Array:
    """As depthwise.correlate, or with a kernel of groups in place of taps: one convolution.

    The barrier keeps XLA from writing a turned kernel as a property of the convolution, which
    then would not be oneDNN's; nor would one with negative padding, which is done beforehand.
    """
    if min(map(min, padding)) < 0:
        config = [(low, high, 0) for low, high in ((0, 0), *padding, (0, 0))]
        x, padding = lax.pad(x, jnp.zeros((), x.dtype), config), ((0, 0), (0, 0))
    kernel = taps[:, :, None] if taps.ndim == 3 else taps
    return lax.conv_general_dilated(
        x,
        lax.optimization_barrier(kernel),
        strides,
        padding,
        rhs_dilation=dilation,
        feature_group_count=x.shape[3] // kernel.shape[2],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _depthwise_input_grad(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """(dy, w) → dx."""
    if spec.window.strides == (1, 1):
        return depthwise.input_grad(spec, dy, w, correlate=_correlate)
    return depthwise.input_grad(spec, dy, w)


def _forward(spec: ConvSpec, x: jax.Array, w: jax.Array) -> jax.Array:
    """(x, w) → y."""
    window = spec.window
    return _correlate(x, w, window.strides, window.padding, window.dilation, x.dtype)


def _input_grad(spec: ConvSpec, dy: jax.Array, w: jax.Array) -> jax.Array:
    """(dy, w) → dx: in each group, what was an input is an output."""
    window = spec.window
    kh, kw, inputs, outputs = w.shape
    by_group = w.reshape(kh, kw, inputs, window.groups, outputs // window.groups)
    taps = by_group.transpose(0, 1, 4, 3, 2).reshape(kh, kw, -1, window.channels)
    return depthwise.by_phases(window, dy, taps, (window.channels,), _correlate)


def _weight_grad(spec: ConvSpec, x: jax.Array, dy: jax.Array) -> jax.Array:
    """(x, dy) → dw: with dy as the kernel. A group's images become its channels, to be summed."""
    window = spec.window
    by_group = x.reshape(*x.shape[:3], window.groups, -1).transpose(4, 1, 2, 3, 0)
    turned = by_group.reshape(-1, *window.size, window.groups * x.shape[0])
    # The barrier keeps XLA from taking the transposed array as it lies, which oneDNN does not.
    dw = _correlate(
        lax.optimization_barrier(turned),
        dy.transpose(1, 2, 0, 3),
        window.dilation,
        groups.weight_padding(window),
        window.strides,
        x.dtype,
    )
    return dw.transpose(1, 2, 0, 3)


def _yields(pass_name: str, spec: ConvSpec, *arrays: jax.Array) -> str | None:
    """Why XLA's groups are the better ones, or None."""
    if cpu.devices() > 1:
        return "makes XLA gather images that are sharded over devices"
    a_group = min(x.shape[3] for x in arrays) // spec.window.groups
    if pass_name == WEIGHT_GRAD and a_group < LEAST:
        return f"is slower at weight gradients of less than {LEAST} channels a group"
    return None


def _refuses(a: jax.Array) -> str | None:
    """Why no call of this kind can be done, or None."""
    if not compiler.onednn():
        return "needs the compiler option that kernels.jit sets, jaxlib 0.11 and Linux on x86-64"
    return None if a.dtype == jnp.float32 else f"takes float32, got {a.dtype}"


def _refuses_depthwise(spec: ConvSpec, *arrays: jax.Array) -> str | None:
    a, b = arrays
    if max(a.shape[3], b.shape[3]) != spec.window.channels:
        return _refuses(a) or "takes no channel multiplier"
    return _refuses(a)


def _refuses_conv(spec: ConvSpec, *arrays: jax.Array) -> str | None:
    window = spec.window
    if spec.algo not in ("auto", "direct"):
        return f"is direct, not {spec.algo}"
    if window.groups in (1, window.channels):
        return "takes more than one group, of more than one channel"
    return _refuses(arrays[0])


DEPTHWISE = dispatch.Implementation(
    "onednn",
    {
        FORWARD: functools.partial(depthwise.forward, correlate=_correlate),
        INPUT_GRAD: _depthwise_input_grad,
        WEIGHT_GRAD: depthwise.weight_grad,
    },
    platforms=("cpu",),
    refuses=_refuses_depthwise,
)
CONV = dispatch.Implementation(
    "onednn",
    {
        FORWARD: _forward,
        INPUT_GRAD: _input_grad,
        WEIGHT_GRAD: _weight_grad,
    },
    platforms=("cpu",),
    refuses=_refuses_conv,
    yields=_yields,
)
