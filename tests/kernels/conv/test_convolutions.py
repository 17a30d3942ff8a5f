"""Both convolutions against their definition in float64: values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import signal

import zoo_kernels as kernels
from tests.kernels.reference import convolution
from zoo_kernels.conv import ALGORITHMS, gemm


def check(op, x, w, geometry, groups, rtol=2e-5, jit=jax.jit):
    """Compares value and both gradients with float64, relative to the largest entry of each."""

    @jit  # one compilation for all three passes
    def passes(x, w):
        y, vjp = jax.vjp(lambda x, w: op(x, w, **geometry), x, w)
        dy = jnp.cos(jnp.arange(y.size)).reshape(y.shape).astype(y.dtype)
        return dy, (y, *vjp(dy))

    dy, results = passes(x, w)
    expected = convolution(x, w, dy, **geometry, groups=groups)
    for got, want in zip(results, expected, strict=True):
        assert got.shape == want.shape
        assert got.dtype == x.dtype
        scale = np.abs(want).max(initial=1e-6)
        np.testing.assert_allclose(np.float64(got) / scale, want / scale, atol=rtol)


def draw_operands(case, kernel_shape, dtype=jnp.float32):
    # NumPy's generator: JAX's would be compiled anew for each shape.
    rng = np.random.default_rng(0)
    shapes = (2, *case["size"], case["channels"]), kernel_shape
    return tuple(jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes)


@pytest.mark.parametrize("groups", [2, 4])
def test_grouped_conv_equals_its_definition(groups):
    case = {"size": (7, 6), "channels": 8}
    geometry = {"strides": (2, 1), "padding": ((1, 1), (0, 2)), "dilation": (1, 2)}
    x, w = draw_operands(case, (3, 2, 8 // groups, 12))
    check(
        lambda x, w, **geometry: kernels.conv(x, w, **geometry, groups=groups),
        x,
        w,
        geometry,
        groups,
    )


@pytest.mark.parametrize(
    ("kernel", "strides", "multiplier"), [((31, 31), 1, 1), ((11, 2), 2, 2), ((2, 31), 3, 1)]
)
def test_large_depthwise_kernels(kernel, strides, multiplier):
    x, w = draw_operands({"size": (33, 32), "channels": 3}, (*kernel, 1, 3 * multiplier))
    geometry = {
        "strides": (strides, strides),
        "padding": ((15, 15), (15, 15)),
        "dilation": (1, 1),
    }
    check(kernels.depthwise_conv, x, w, geometry, groups=3)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("batch", "min_rows"), [(4, 60), (5, 40)])  # two images a step, or one
def test_weight_gradient_a_few_images_at_a_time(monkeypatch, groups, batch, min_rows):
    monkeypatch.setattr(gemm, "MIN_ROWS", min_rows)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(batch, 14, 11, 6)), jnp.float32)
    w = jnp.asarray(rng.normal(size=(3, 2, 6 // groups, 4)), jnp.float32)
    geometry = {"strides": (2, 2), "padding": ((1, 0), (2, 1)), "dilation": (1, 2)}

    def op(x, w, **geometry):
        return kernels.conv(x, w, **geometry, groups=groups, algo="gemm")

    jax.clear_caches()
    check(op, x, w, geometry, groups)
    grad = jax.grad(lambda w: op(x, w, **geometry).sum())
    jax.clear_caches()
    assert "while" in str(jax.make_jaxpr(grad)(w))


@pytest.mark.parametrize(("dtype", "rtol"), [(jnp.bfloat16, 2**-8), (jnp.float16, 2**-11)])
def test_low_precision_is_accumulated_in_float32(dtype, rtol):
    """One rounding at the end, of half a unit in the last place; summing in `dtype` makes more."""
    x, w = draw_operands({"size": (9, 9), "channels": 4}, (5, 5, 1, 4), dtype)
    geometry = {"strides": (1, 1), "padding": ((2, 2), (2, 2)), "dilation": (1, 1)}
    check(kernels.depthwise_conv, x, w, geometry, groups=4, rtol=rtol)


@pytest.mark.parametrize("op", [kernels.conv, kernels.depthwise_conv])
def test_flip_reverses_both_axes_of_the_kernel(op):
    """NNlib's conv(x, w) = crosscor(x, w flipped in height and width), worked out by hand."""
    x = jnp.arange(1.0, 4.0).reshape(1, 1, 3, 1)
    w = jnp.array([1.0, 10.0]).reshape(1, 2, 1, 1)
    assert op(x, w, padding="VALID").ravel().tolist() == [21.0, 32.0]
    assert op(x, w, padding="VALID", flip=True).ravel().tolist() == [12.0, 23.0]


@pytest.mark.parametrize("op", [kernels.conv, kernels.depthwise_conv])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 4), (1, 5)])
def test_flip_is_scipys_convolution(op, kernel):
    x, w = draw_operands({"size": (7, 8), "channels": 1}, (*kernel, 1, 1))
    for padding, mode in (("VALID", "valid"), (tuple((k - 1, k - 1) for k in kernel), "full")):
        for flip, reference in ((True, signal.convolve2d), (False, signal.correlate2d)):
            got = op(x, w, padding=padding, flip=flip)
            for image, want in zip(got[..., 0], x[..., 0], strict=True):
                want = reference(np.float64(want), np.float64(w[:, :, 0, 0]), mode)
                np.testing.assert_allclose(image, want, atol=1e-5)


@pytest.mark.parametrize("padding", ["SAME", "VALID", 2])
@pytest.mark.parametrize("size", [8, 9])
def test_padding_by_name_is_that_of_xla(padding, size):
    x, w = draw_operands({"size": (size, size), "channels": 3}, (3, 3, 1, 3))
    pads = padding if isinstance(padding, str) else [(padding, padding)] * 2
    want = jax.lax.conv_general_dilated(
        x, w, (2, 2), pads, feature_group_count=3, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    got = kernels.depthwise_conv(x, w, strides=2, padding=padding)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("op", "shape"), [(kernels.depthwise_conv, (3, 3, 1, 2)), (kernels.conv, (3, 3, 2, 2))]
)
def test_second_derivatives_are_exact(op, shape):
    """y is bilinear, so for L = Σ y²/2 the Hessian-vector products follow from F, I and G alone."""
    x, w = draw_operands({"size": (5, 6), "channels": 2}, shape)
    dx, dw = (jax.random.normal(jax.random.key(i), a.shape) for i, a in enumerate((x, w)))

    def f(x, w):
        return op(x, w, strides=2)

    def grad_times_direction(x, w):
        gx, gw = jax.grad(lambda x, w: (f(x, w) ** 2).sum() / 2, argnums=(0, 1))(x, w)
        return (gx * dx).sum() + (gw * dw).sum()

    # It is Σ y · (F(dx, w) + F(x, dw)); with a gradient by the product rule, by plain XLA.
    def plain(x, w):
        def f(x, w):
            return jax.lax.conv_general_dilated(
                x,
                w,
                (2, 2),
                "SAME",
                feature_group_count=2 // w.shape[2],
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )

        return (f(x, w) * (f(dx, w) + f(x, dw))).sum()

    got, want = (
        jax.grad(grad_times_direction, argnums=(0, 1))(x, w),
        jax.grad(plain, argnums=(0, 1))(x, w),
    )
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


OPERATORS = [
    (kernels.depthwise_conv, (3, 3, 1, 4)),
    (kernels.depthwise_conv, (11, 3, 1, 4)),
    (functools.partial(kernels.conv, groups=2), (3, 3, 2, 4)),
    *((functools.partial(kernels.conv, algo=algo), (3, 3, 4, 4)) for algo in ALGORITHMS),
]


@pytest.mark.parametrize(("op", "shape"), OPERATORS)
def test_numerical_derivatives_of_both_orders(op, shape):
    """In float64, where finite differences are worth something."""
    with jax.enable_x64(True):
        x, w = draw_operands({"size": (4, 5), "channels": 4}, shape, jnp.float64)
        check_grads(jax.jit(lambda x, w: jnp.sin(op(x, w))), (x, w), order=2, modes=["rev"])


@pytest.mark.parametrize(("op", "shape"), OPERATORS)
def test_vmap_over_either_argument(op, shape):
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((3, 2, 5, 5, 4), (3, *shape)))
    grad = jax.grad(lambda x, w: (op(x, w) ** 2).sum(), (0, 1))
    alone = jax.jit(grad)
    for axes in ((0, 0), (0, None), (None, 0)):
        x_, w_ = (a if axis == 0 else a[0] for a, axis in zip((x, w), axes, strict=True))
        got = jax.jit(jax.vmap(grad, in_axes=axes))(x_, w_)
        for i in range(3):
            want = alone(
                *(a[0 if axis is None else i] for a, axis in zip((x, w), axes, strict=True))
            )
            for a, b in zip(got, want, strict=True):
                np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("op", "shape"), OPERATORS)
def test_inside_checkpoint_and_scan(op, shape):
    x, w = draw_operands({"size": (5, 6), "channels": 4}, shape)

    def looped(x, w):
        step = jax.checkpoint(lambda x, _: (jnp.tanh(op(x, w)), None))
        return (jax.lax.scan(step, x, None, length=3)[0] ** 2).sum()

    def unrolled(x, w):
        for _ in range(3):
            x = jnp.tanh(op(x, w))
        return (x**2).sum()

    got, want = (jax.jit(jax.grad(f, (0, 1)))(x, w) for f in (looped, unrolled))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


X, W = jnp.zeros((1, 4, 4, 3)), jnp.zeros((3, 3, 1, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kernels.depthwise_conv(X[0], W), ValueError, r"x must be \[N, H, W, C\].*4, 3"),
        (lambda: kernels.depthwise_conv(X, W[0]), ValueError, r"w must be \[kh, kw, in, out\]"),
        (lambda: kernels.depthwise_conv(X, W[..., :2]), ValueError, "multiple of the 3 group"),
        (lambda: kernels.depthwise_conv(X, W[..., :0]), ValueError, r"\(3, 3, 1, 0\)"),
        (lambda: kernels.conv(X[..., :0], W), ValueError, r"\(1, 4, 4, 0\)"),
        (lambda: kernels.conv(X, W), ValueError, r"3 input channel.*\(3, 3, 1, 3\)"),
        (lambda: kernels.conv(X, W, groups=2), ValueError, "groups must divide.*got 2"),
        (lambda: kernels.conv(X, W, groups=None), ValueError, "groups must be an integer.*None"),
        (lambda: kernels.conv(X.astype("float8_e4m3fn"), W), ValueError, "float8_e4m3fn"),
        (lambda: kernels.conv(X, W, groups=0), ValueError, "groups must be an integer.*0"),
        (lambda: kernels.depthwise_conv(X.astype(int), W), ValueError, "int32 and float32"),
        (lambda: kernels.depthwise_conv(X, W, strides=0), ValueError, "strides must be .*0"),
        (lambda: kernels.depthwise_conv(X, W, strides=(1, 2, 3)), ValueError, "strides must be"),
        (lambda: kernels.depthwise_conv(X, W, dilation=1.5), ValueError, "dilation must be .*1.5"),
        (lambda: kernels.depthwise_conv(X, W, padding="FULL"), ValueError, "'FULL'"),
        (lambda: kernels.depthwise_conv(X, W, padding=-1), ValueError, "padding must be .*-1"),
        (lambda: kernels.depthwise_conv(X, W, padding=(1, 1)), ValueError, "top, bottom"),
        (
            lambda: kernels.depthwise_conv(X, W, padding="VALID", dilation=2),
            ValueError,
            "does not fit",
        ),
        (lambda: kernels.conv(X, W, groups=3, algo="magic"), ValueError, "algo must be.*'magic'"),
        (lambda: kernels.conv(X[:0], W, groups=3), ValueError, r"none of them 0.*\(0, 4, 4, 3\)"),
        (
            lambda: kernels.conv(X, W, groups=3, algo="winograd", strides=2),
            NotImplementedError,
            r"winograd takes a 3x3 kernel.*got 3x3, \(2, 2\)",
        ),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()
