"""The native layers against their definition, on whole numbers; and what is not finite."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.kernels.native.whole_numbers import (
    ACTIVATIONS,
    check_conv,
    check_depthwise,
    check_max_pool,
    check_pointwise,
    largest,
    whole,
)
from zoo_kernels import native
from zoo_kernels.core import activations
from zoo_kernels.core.window import resolve_pool, resolve_window

pytestmark = pytest.mark.usefixtures("native_library")

SAME3 = ((1, 1), (1, 1))


def none(h, w):
    return ((h, h), (w, w))


class TestConv:
    @pytest.mark.parametrize(
        ("x", "outputs", "strides"),
        [
            ((1, 1, 1, 1), 1, (1, 1)),
            ((2, 1, 1, 512), 1000, (1, 1)),
            ((1, 1, 1, 1024), 17, (1, 1)),
            ((3, 5, 7, 3), 5, (1, 1)),
            ((1, 9, 8, 15), 16, (1, 1)),
            ((2, 13, 11, 16), 33, (1, 1)),
            ((1, 40, 40, 17), 24, (1, 1)),
            ((1, 12, 12, 33), 48, (2, 2)),
            ((2, 7, 6, 32), 32, (2, 3)),
            ((2, 9, 5, 24), 40, (3, 1)),
            ((1, 14, 14, 512), 96, (1, 1)),  # copied, as its pixels compete for the cache
            ((2, 7, 7, 512), 100, (2, 2)),
            ((1, 8, 6, 1024), 130, (1, 2)),
            ((1, 1, 230, 8), 16, (1, 1)),
            ((1, 3, 450, 4), 20, (2, 2)),
            ((1, 33, 35, 64), 256, (1, 1)),  # many panels of channels
        ],
    )
    def test_1x1(self, x, outputs, strides):
        check_conv(x, (1, 1), outputs, strides=strides)

    @pytest.mark.parametrize(
        ("x", "kernel", "outputs", "options"),
        [
            ((1, 1, 1, 1), (3, 3), 1, {"padding": SAME3}),
            ((2, 5, 4, 3), (3, 3), 5, {}),
            ((1, 40, 40, 3), (3, 3), 16, {"padding": SAME3, "strides": (2, 2)}),
            ((1, 39, 37, 3), (7, 7), 24, {"padding": none(3, 3), "strides": (2, 2)}),
            ((2, 14, 13, 16), (3, 3), 17, {"padding": SAME3}),
            ((3, 10, 10, 17), (3, 3), 32, {"padding": SAME3, "strides": (1, 2)}),
            ((1, 9, 11, 33), (3, 3), 33, {"padding": ((0, 1), (1, 0))}),
            ((2, 7, 7, 512), (3, 3), 48, {"padding": SAME3}),
            ((1, 5, 6, 1024), (3, 3), 24, {"padding": SAME3, "strides": (2, 1)}),
            ((1, 9, 9, 512), (3, 3), 16, {"padding": none(2, 2), "dilation": (2, 2)}),
            ((1, 3, 460, 3), (3, 3), 16, {"padding": SAME3}),  # rows longer than a block
            ((1, 2, 230, 8), (3, 3), 40, {"padding": SAME3}),
            ((1, 4, 800, 1), (3, 5), 5, {"padding": ((1, 1), (0, 2)), "strides": (1, 3)}),
            ((1, 2, 3, 5), (3, 3), 16, {"padding": ((9, 4), (5, 11))}),  # beyond the kernel
            ((2, 1, 1, 3), (1, 1), 17, {"padding": ((2, 0), (0, 3))}),
            ((2, 3, 4, 6), (1, 1), 17, {"padding": ((0, 2), (0, 3))}),  # below and right alone
            ((1, 3, 4, 6), (1, 1), 17, {"padding": ((0, 1), (0, 0)), "strides": (2, 2)}),
            ((1, 5, 4, 3), (2, 4), 16, {"padding": ((0, 1), (2, 1)), "strides": (2, 3)}),
            ((1, 20, 19, 8), (3, 3), 24, {"padding": none(4, 2), "dilation": (4, 2)}),
            ((2, 12, 9, 15), (1, 3), 16, {"padding": ((0, 0), (1, 1)), "dilation": (1, 3)}),
            ((2, 9, 12, 15), (3, 1), 16, {"padding": ((1, 1), (0, 0)), "dilation": (3, 1)}),
            ((1, 17, 17, 2), (5, 5), 33, {"padding": none(2, 2), "strides": (3, 2)}),
            ((1, 13, 13, 2), (11, 11), 8, {"padding": none(2, 2), "strides": (4, 4)}),
        ],
    )
    def test_windows(self, x, kernel, outputs, options):
        check_conv(x, kernel, outputs, **options)

    @pytest.mark.parametrize("channels", [1, 3, 15, 16, 17, 31, 33])
    @pytest.mark.parametrize("outputs", [1, 5, 16, 17, 24, 32, 33, 48])
    def test_channels(self, channels, outputs):
        check_conv((1, 6, 5, channels), (3, 3), outputs, padding=SAME3)
        check_conv((1, 6, 5, channels), (1, 1), outputs)

    @pytest.mark.parametrize("columns", range(1, 30))
    def test_tiles_of_any_height(self, columns):
        check_conv((1, 1, columns, 4), (1, 1), 40)
        check_conv((1, 1, columns, 4), (3, 3), 40, padding=SAME3)

    @pytest.mark.parametrize("act", ACTIVATIONS)
    @pytest.mark.parametrize("residual", [False, True])
    @pytest.mark.parametrize("kernel", [(1, 1), (3, 3)])
    def test_activations_and_residuals(self, act, residual, kernel):
        pad = kernel[0] // 2
        for outputs in (16, 21, 40):
            check_conv(
                (2, 6, 7, 5), kernel, outputs, act, residual, padding=none(pad, pad), strides=(2, 1)
            )

    def test_real_numbers_within_their_rounding(self):
        rng = np.random.default_rng(0)
        x, w = rng.normal(size=(2, 9, 9, 64)), rng.normal(size=(1, 1, 64, 40))
        x, w = x.astype(np.float32), w.astype(np.float32)
        window = resolve_window("conv", x, (1, 1), 1, 0, 1, 1)
        bias = np.zeros(40, np.float32)
        got = native.conv([x], native.pack(w), native.pad_channels(bias), outputs=40, window=window)
        bound = 64 * 2.0**-24 * (abs(np.float64(x)) @ abs(w[0, 0]))
        assert (abs(got - np.float64(x) @ w[0, 0]) <= bound).all()

    def test_weights_are_arguments_or_traced(self):
        x, w = whole(1, 5, 5, 3), whole(3, 3, 3, 20, seed=1)
        window = resolve_window("conv", x, (3, 3), 1, 1, 1, 1)

        @jax.jit
        def f(x, w):
            bias = native.pad_channels(jnp.zeros(20), jnp)
            return native.conv([x], native.pack(w, xp=jnp), bias, outputs=20, window=window)

        np.testing.assert_array_equal(native.pack(jnp.asarray(w), xp=jnp), native.pack(w))
        want = jax.lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        np.testing.assert_array_equal(f(x, w), want)
        several = jax.vmap(f, (0, None))(jnp.stack([x, 2 * x]), w)
        np.testing.assert_array_equal(several, jnp.stack([want, 2 * want]))


class TestPointwise:
    """What DenseNet's 1x1 convolutions do before they multiply."""

    @pytest.mark.parametrize("parts", [(5,), (16, 16), (3, 1, 17), (64, 32, 32, 32), (1,) * 40])
    def test_several_inputs(self, parts):
        check_pointwise((2, 5, 6), parts, 24)
        check_pointwise((1, 3, 4), parts, 20, norm=True, act="relu")

    @pytest.mark.parametrize("size", [(1, 4, 4), (2, 5, 7), (1, 2, 3), (3, 9, 8), (1, 30, 31)])
    @pytest.mark.parametrize("norm", [False, True])
    def test_means_of_cells(self, size, norm):
        """An odd row or column is left out."""
        check_pointwise(size, (19,), 33, norm, cell=2)
        check_pointwise(size, (16, 3, 8), 16, norm, cell=2)

    def test_larger_cells(self):
        check_pointwise((2, 9, 10), (8,), 16, norm=True, cell=3)
        check_pointwise((1, 9, 13), (8, 9), 16, cell=4)

    @pytest.mark.parametrize("channels", [256, 512])
    def test_channels_that_compete_for_the_cache(self, channels):
        check_pointwise((1, 6, 6), (channels, channels), 100, norm=True)
        check_pointwise((1, 6, 6), (2 * channels,), 100, cell=2)

    def test_a_norm_of_nan_is_nan(self):
        x = np.full((1, 1, 1, 20), np.nan, np.float32)
        one, zero = np.ones(20, np.float32), np.zeros(1, np.float32)
        window = resolve_window("conv", x, (1, 1), 1, 0, 1, 1)
        packed = native.pack(np.ones((1, 1, 20, 1), np.float32)), native.pad_channels(zero)
        assert np.isnan(native.conv([x], *packed, outputs=1, window=window, norm=(one, one))).all()


class TestDepthwise:
    @pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (7, 7), (1, 3), (3, 1), (2, 2), (4, 3)])
    @pytest.mark.parametrize("strides", [(1, 1), (2, 2), (3, 3), (1, 2), (2, 1), (2, 3)])
    def test_windows(self, kernel, strides):
        pad = none(kernel[0] // 2, kernel[1] // 2)
        check_depthwise((1, 11, 10, 20), kernel, 20, strides=strides, padding=pad)
        check_depthwise((2, 9, 9, 16), kernel, 16, strides=strides)

    @pytest.mark.parametrize("channels", [1, 3, 15, 16, 17, 31, 32, 33, 48, 100])
    def test_channels(self, channels):
        check_depthwise((2, 5, 6, channels), (3, 3), channels, padding=SAME3)
        check_depthwise((1, 5, 6, 7), (3, 3), channels, expansion_act="relu", padding=SAME3)

    @pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 8, 9, 13, 14, 15, 29, 40])
    def test_columns(self, columns):
        for strides in ((1, 1), (2, 2)):
            options = {"padding": SAME3, "strides": strides}
            check_depthwise((1, 3, columns, 18), (3, 3), 18, **options)
            check_depthwise((1, 3, columns, 3), (3, 3), 18, expansion_act="relu6", **options)

    @pytest.mark.parametrize(
        ("x", "kernel", "options"),
        [
            ((1, 1, 1, 3), (3, 3), {"padding": SAME3}),
            ((2, 12, 11, 5), (3, 3), {"padding": none(2, 2), "dilation": (2, 2)}),
            ((1, 12, 11, 40), (3, 3), {"dilation": (1, 3), "padding": ((0, 1), (3, 2))}),
            ((1, 12, 11, 40), (5, 5), {"dilation": (2, 1), "strides": (2, 2)}),
            ((1, 2, 3, 5), (3, 3), {"padding": ((9, 4), (5, 11))}),
            ((1, 2, 3, 5), (5, 5), {"padding": ((4, 4), (12, 0)), "strides": (2, 2)}),
            ((1, 8, 8, 4), (2, 2), {"padding": ((0, 1), (0, 1))}),
            ((1, 224, 3, 4), (3, 3), {"padding": SAME3}),
            ((1, 3, 1000, 33), (3, 3), {"padding": SAME3}),  # a row fills the buffer
            ((1, 5, 4, 17), (1, 1), {"strides": (2, 1)}),
            ((2, 40, 40, 33), (5, 5), {"padding": none(2, 2)}),  # in several blocks of rows
            ((1, 10, 10, 6), (9, 9), {"padding": none(4, 4)}),
        ],
    )
    def test_other_windows(self, x, kernel, options):
        check_depthwise(x, kernel, x[3], **options)
        check_depthwise(x, kernel, 24, expansion_act="identity", **options)

    @pytest.mark.parametrize("act", ACTIVATIONS)
    @pytest.mark.parametrize("expansion_act", [None, *ACTIVATIONS])
    def test_activations(self, act, expansion_act):
        """The padding is zeros, also where the expansion's activation of its bias is not."""
        channels = 4 if expansion_act else 21
        check_depthwise((2, 6, 7, channels), (3, 3), 21, act, expansion_act, padding=SAME3)
        check_depthwise(
            (1, 6, 7, channels), (5, 5), 21, act, expansion_act, padding=none(2, 2), strides=(2, 2)
        )

    @pytest.mark.parametrize("strides", [(1, 1), (2, 2), (1, 2)])
    def test_an_expansion_of_many_channels(self, strides):
        options = {"padding": SAME3, "strides": strides}
        check_depthwise((1, 14, 14, 24), (3, 3), 144, "relu6", "relu6", **options)
        check_depthwise((2, 7, 7, 112), (5, 5), 100, "relu", "relu", padding=none(2, 2))


class TestMaxPool:
    @pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (2, 3), (5, 1)])
    @pytest.mark.parametrize("strides", [(1, 1), (2, 2), (1, 3)])
    @pytest.mark.parametrize("channels", [1, 16, 33])
    def test_windows(self, kernel, strides, channels):
        pad = ((kernel[0] // 2, 0), (0, kernel[1] // 2))
        check_max_pool((2, 9, 8, channels), kernel, strides=strides, padding=pad)
        check_max_pool((1, 9, 8, channels), kernel, strides=strides, dilation=(2, 3))

    def test_windows_outside_of_the_image_are_minus_infinity(self):
        check_max_pool((1, 3, 2, 5), (2, 2), padding=((4, 3), (2, 5)))
        check_max_pool((1, 1, 1, 3), (3, 3), padding=((1, 1), (1, 1)))

    @pytest.mark.parametrize("channels", [3, 40])
    def test_nan_and_infinities(self, channels):
        rng = np.random.default_rng(0)
        special = np.float32([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 2.0])
        for shares in ([0.05, 0.05, 0.3, 0.1, 0.1, 0.2, 0.2], [0.9, 0.05, 0.05, 0, 0, 0, 0]):
            x = rng.choice(special, (2, 7, 8, channels), p=shares)
            x, window = resolve_pool("max_pool", x, 3, 2, 1, 1)
            got = native.max_pool(x, window)
            np.testing.assert_array_equal(got, largest(np.asarray(x), window))


def apply(act, z, kind):
    """An activation of z by each of the layers: as a product with 1."""
    channels = z.shape[3]
    window = resolve_window("conv", z, (1, 1), 1, 0, 1, 1)
    bias = native.pad_channels(np.zeros(channels, np.float32))
    if kind == "depthwise":
        window = resolve_window("conv", z, (1, 1), 1, 0, 1, channels)
        w = native.pack(np.ones((1, 1, 1, channels), np.float32), depthwise=True)
        return native.depthwise_conv(z, w, bias, window=window, act=act)
    w = native.pack(np.ones((1, 1, 1, 1), np.float32))
    columns = z.reshape(1, 1, -1, 1)
    window = resolve_window("conv", columns, (1, 1), 1, 0, 1, 1)
    bias = native.pad_channels(np.zeros(1, np.float32))
    return native.conv([columns], w, bias, outputs=1, window=window, act=act).reshape(z.shape)


@pytest.mark.parametrize("kind", ["dense", "depthwise"])
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_activations_of_what_is_not_finite_are_those_of_xla(act, kind):
    special = np.float32([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-45, -1e-45, 3e38, -3e38])
    z = np.resize(special, (1, 3, 5, 18))
    want = jax.jit(activations.ACTIVATIONS[act].value)(z)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(apply(act, z, kind), want, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("padding", [0, 1])
def test_nan_and_infinity_spread_as_in_xla(padding):
    """One pixel of each kind: what it reaches is as in XLA's convolution."""
    x, w = whole(1, 9, 9, 20), whole(3, 3, 20, 18, seed=1)
    x[0, 2, 2, 3], x[0, 5, 7, 19], x[0, 8, 0, 0] = np.nan, np.inf, -np.inf
    for groups, kernel in ((1, w), (20, whole(3, 3, 1, 20, seed=2))):
        window = resolve_window("conv", x, (3, 3), 1, padding, 1, groups)
        bias = native.pad_channels(np.zeros(kernel.shape[3], np.float32))
        packed = native.pack(kernel, depthwise=groups > 1)
        if groups > 1:
            run = functools.partial(native.depthwise_conv, x)
        else:
            run = functools.partial(native.conv, [x], outputs=18)
        got = run(packed, bias, window=window, act="relu")
        want = jax.lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            [(padding, padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
        np.testing.assert_array_equal(got, jnp.maximum(want, 0))
