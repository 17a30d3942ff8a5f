"""Sampled calls of the operators, and bounds on their rounding errors.

The inputs are exact in their dtype, the references are float64. A sum of n products that is
accumulated in precision u is off by at most n·u·Σ|a·b|, and rounding it to the result's precision
adds half a unit of that: so the bounds come from the reference on absolute values.
"""

import jax.numpy as jnp
import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

DTYPES = ("float32", "float32", "float32", "bfloat16", "float16", "float64")
HALVES = ("float32", "bfloat16", "float16")
# Compiler options where rounding is tested: tanh rounds worse without optimisation, which
# `pytest --unoptimised` asks for.
OPTIMISED = {"xla_backend_optimization_level": 3}

sampled = settings(
    deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), print_blob=False
)

# For calls that take seconds to compile, such as interpreted kernels.
fewer = settings(sampled, max_examples=settings.default.max_examples // 6)


def unit(dtype):
    """The unit roundoff of a dtype."""
    return float(jnp.finfo(dtype).eps) / 2


def rounding(dtype):
    """The unit roundoff in which operators accumulate for inputs of a dtype."""
    return unit(jnp.promote_types(dtype, jnp.float32))


def draw(shape, dtype, seed=0, scale=1.0):
    """Draws normal random numbers by NumPy: JAX's would be compiled anew for each shape."""
    rng = np.random.default_rng((seed, *shape))
    return jnp.asarray(scale * rng.normal(size=shape), dtype)


def assert_close(got, want, bound, what):
    """Asserts that every entry is within its bound."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, what
    excess = np.abs(got - want) - bound
    assert np.all(excess <= 0), f"{what}: off by {np.abs(got - want).max()}, {excess.max()} too far"


@st.composite
def convolutions(draw, depthwise, algos=("direct",), multipliers=(1, 1, 1, 2, 3), dtypes=DTYPES):
    """Draws a valid convolution: its geometry, channels, groups, dtype and algorithm."""
    algo = draw(st.sampled_from(algos))
    taps = st.one_of(st.integers(1, 4), st.integers(1, 9))
    kernel = draw(st.tuples(taps, taps))
    strides, dilation = (draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) for _ in range(2))
    if draw(st.integers(0, 15)) == 0:
        kernel, dilation = draw(st.sampled_from([(31, 31), (31, 3), (5, 31)])), (1, 1)
    if algo == "winograd":
        kernel, strides, dilation = (3, 3), (1, 1), (1, 1)
    side = st.integers(0, 3)
    pair = st.tuples(side, side)
    padding = draw(st.one_of(st.sampled_from(["SAME", "VALID"]), side, st.tuples(pair, pair)))
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = [draw(st.integers(1, 9)) for _ in range(2)]
    if padding != "SAME":
        zeros = padding if isinstance(padding, tuple) else ((padding, padding),) * 2
        padded = (0, 0) if padding == "VALID" else map(sum, zeros)
        size = [max(n, e - p) for n, e, p in zip(size, extent, padded, strict=True)]
    small = max(kernel) < 31
    if depthwise:
        channels = draw(st.sampled_from([1, 3, 4, 33, 728] if small else [1, 3, 33]))
        multiplier = draw(st.sampled_from(multipliers if channels < 728 else [1]))
        groups, shape = channels, (*kernel, 1, channels * multiplier)
    else:
        groups = draw(st.sampled_from([1, 1, 1, 2, 3, 8]))
        inputs, outputs = (draw(st.sampled_from([1, 3, 5, 16])) for _ in range(2))
        channels, shape = inputs * groups, (*kernel, inputs, outputs * groups)
    return {
        "x": (draw(st.integers(1, 3)), *size, channels),
        "w": shape,
        "geometry": {"strides": strides, "padding": padding, "dilation": dilation},
        "groups": groups,
        "dtype": draw(st.sampled_from(dtypes)),
        "algo": algo,
        "flip": draw(st.booleans()),
    }
