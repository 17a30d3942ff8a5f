"""Calls of the native layers on small whole numbers, and what they must give by definition.

Sums of products of small whole numbers are exact in float32, so the references must be met to the
bit: one tap too few or too many cannot pass for a rounding error. Divisions, which the hard
activations and means of cells need, are off by a few units in the last place.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests.kernels.reference import convolution
from zoo_kernels import native
from zoo_kernels.core.window import resolve_window

# Of the last operations, a product with a rounded reciprocal among them.
FEW_UNITS = 4 * float(jnp.finfo(jnp.float32).eps)
EXACT = ("identity", "relu", "relu6")

ACTIVATIONS = {
    "identity": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "relu6": lambda z: np.clip(z, 0, 6),
    "hard_swish": lambda z: z * np.clip(z + 3, 0, 6) / 6,
    "hard_sigmoid": lambda z: np.clip(z + 3, 0, 6) / 6,
}


def whole(*shape, seed=0):
    """Whole numbers from -3 to 3 without 0, in which every tap shows."""
    rng = np.random.default_rng((seed, *shape))
    return np.float32(rng.integers(1, 4, shape) * rng.choice((-1, 1), shape))


def assert_equal(got, want, what, exact=True):
    """Asserts equality, or but for a few roundings."""
    assert got.dtype == jnp.float32, what
    rtol = 0 if exact else FEW_UNITS
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol, err_msg=str(what))


def geometry(strides=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1)):
    """A convolution's geometry as `resolve_window` and the reference take it."""
    return {"strides": strides, "padding": padding, "dilation": dilation}


def window_of(x, kernel, groups, geometry):
    """The window of a convolution of x."""
    order = (geometry["strides"], geometry["padding"], geometry["dilation"])
    return resolve_window("conv", x, kernel, *order, groups)


def check_conv(x_shape, kernel, outputs, act="identity", residual=False, **options):
    """A dense convolution."""
    places = geometry(**options)
    x, w = whole(*x_shape), whole(*kernel, x_shape[3], outputs, seed=1)
    bias = whole(outputs, seed=2)
    z = convolution(x, w, None, **places, groups=1)[0] + bias
    added = whole(*z.shape, seed=3) if residual else None
    want = ACTIVATIONS[act](z if added is None else z + added)
    run = functools.partial(
        native.conv, outputs=outputs, window=window_of(x, kernel, 1, places), act=act
    )
    packed = native.pack(w), native.pad_channels(bias)
    got = jax.jit(lambda x, added: run([x], *packed, residual=added))(x, added)
    assert_equal(got, want, (x_shape, kernel, outputs, act, residual, options), act in EXACT)


def check_pointwise(sizes, parts, outputs, norm=False, cell=1, act="identity"):
    """A 1x1 convolution of several arrays [N, H, W] + [C], normalised, by means of cells."""
    arrays = [whole(*sizes, channels, seed=i) for i, channels in enumerate(parts)]
    channels = sum(parts)
    w, bias = whole(1, 1, channels, outputs, seed=100), whole(outputs, seed=101)
    scale, offset = whole(channels, seed=102), whole(channels, seed=103)
    x = np.concatenate(arrays, -1).astype(np.float64)
    if norm:
        x = np.maximum(x * scale + offset, 0)
    n, rows, columns = sizes[0], sizes[1] // cell, sizes[2] // cell
    x = x[:, : rows * cell, : columns * cell]
    x = x.reshape(n, rows, cell, columns, cell, channels).mean(axis=(2, 4))
    want = ACTIVATIONS[act](x @ w[0, 0].astype(np.float64) + bias)
    run = functools.partial(
        native.conv,
        outputs=outputs,
        window=resolve_window("conv", np.zeros((*sizes, channels)), (1, 1), 1, 0, 1, 1),
        act=act,
        norm=(scale, offset) if norm else None,
        cell=cell,
    )
    packed = native.pack(w), native.pad_channels(bias)
    got = jax.jit(lambda *arrays: run(arrays, *packed))(*arrays)
    if cell & (cell - 1):  # the means are rounded, and so are their sums
        np.testing.assert_allclose(got, want, rtol=0, atol=FEW_UNITS * 30 * channels)
    else:
        assert_equal(got, want, (sizes, parts, outputs, norm, cell, act), act in EXACT)


def check_depthwise(x_shape, kernel, channels, act="identity", expansion_act=None, **options):
    """A depthwise convolution, of an expansion if that has an activation."""
    places = geometry(**options)
    x, w, bias = whole(*x_shape), whole(*kernel, 1, channels, seed=1), whole(channels, seed=2)
    between, expansion = np.float64(x), None
    if expansion_act:
        expand, expand_bias = whole(1, 1, x_shape[3], channels, seed=3), whole(channels, seed=4)
        between = ACTIVATIONS[expansion_act](between @ expand[0, 0] + expand_bias)
        expansion = native.pack(expand), native.pad_channels(expand_bias), expansion_act
    z = convolution(between, w, None, **places, groups=channels)[0] + bias
    run = functools.partial(
        native.depthwise_conv, window=window_of(between, kernel, channels, places), act=act
    )
    packed = native.pack(w, depthwise=True), native.pad_channels(bias)
    got = jax.jit(lambda x: run(x, *packed, expansion=expansion))(x)
    what = (x_shape, kernel, channels, act, expansion_act, options)
    if expansion_act in (None, *EXACT):
        assert_equal(got, ACTIVATIONS[act](z), what, act in EXACT)
    else:  # what is between is rounded
        sums = convolution(abs(between), abs(w), None, **places, groups=channels)[0]
        excess = abs(got - ACTIVATIONS[act](z)) - FEW_UNITS * 2 * (1 + sums)
        assert excess.max() <= 0, what


def check_max_pool(x_shape, kernel, **options):
    """A max pool, whose values are seldom distinct."""
    places = geometry(**options)
    x = whole(*x_shape)
    window = window_of(x, kernel, x_shape[3], places)
    got = jax.jit(functools.partial(native.max_pool, window=window))(x)
    assert_equal(got, largest(x, window), (x_shape, kernel, options))


def largest(x, window):
    """Max pooling by its definition: NaN if there is one, −inf where there is nothing."""
    padded = np.pad(x, ((0, 0), *window.padding, (0, 0)), constant_values=-np.inf)
    (rows, columns), (sh, sw), (dh, dw) = window.out, window.strides, window.dilation
    taps = [
        padded[:, i * dh : i * dh + (rows - 1) * sh + 1 : sh][
            :, :, j * dw : j * dw + (columns - 1) * sw + 1 : sw
        ]
        for i in range(window.kernel[0])
        for j in range(window.kernel[1])
    ]
    return functools.reduce(np.maximum, taps)
