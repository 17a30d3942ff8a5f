"""Convolution by XLA: its own operator, or a matrix product over patches."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from kernels import dispatch
from kernels.bilinear import FORWARD, INPUT_GRAD, WEIGHT_GRAD, Static
from kernels.xla import linear


def gemm(static: Static, x: jax.Array, w: jax.Array) -> jax.Array:
    """Patches times kernel, one matrix product; for a 1x1 kernel the patches are x itself."""
    window = static.window
    (kh, kw), (ho, wo) = window.kernel, window.out
    (sh, sw), (dh, dw) = window.strides, window.dilation
    n, _, _, c = x.shape
    x = jnp.pad(x, ((0, 0), *window.padding, (0, 0)))
    taps = [
        lax.slice(
            x,
            (0, i * dh, j * dw, 0),
            (n, i * dh + (ho - 1) * sh + 1, j * dw + (wo - 1) * sw + 1, c),
            (1, sh, sw, 1),
        )
        for i in range(kh)
        for j in range(kw)
    ]
    patches = taps[0] if len(taps) == 1 else jnp.concatenate(taps, axis=3)
    return lax.dot_general(patches, w.reshape(-1, w.shape[3]), (((3,), (0,)), ((), ())))


ALGORITHMS = {"direct": linear.direct, "gemm": gemm}


def forward(static: Static, x: jax.Array, w: jax.Array) -> jax.Array:
    """(x, w) → y."""
    return ALGORITHMS[static.algo](static, x, w)


def refuses(static: Static, *arrays: jax.Array) -> str | None:
    """Why the call cannot be done, or None."""
    if static.algo not in ALGORITHMS:
        return f"has no algorithm {static.algo!r}, only {', '.join(ALGORITHMS)}"
    if static.algo == "gemm" and static.window.groups > 1:
        return f"gemm takes groups=1, got {static.window.groups}"
    return None


IMPLEMENTATION = dispatch.Implementation(
    "xla",
    {
        FORWARD: forward,
        INPUT_GRAD: functools.partial(linear.input_grad, forward),
        WEIGHT_GRAD: functools.partial(linear.weight_grad, forward),
    },
    refuses=refuses,
)
