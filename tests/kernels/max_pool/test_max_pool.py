"""Max pools and their gradients against the definition, exactly: all values are small integers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

import zoo_kernels as kernels
from tests.kernels.cases import DTYPES, sampled
from tests.kernels.reference import explicit_padding


def reference(x, dy, kernel, strides, padding, dilation):
    """Computes y and dx: each window's gradient goes to the first of its largest values."""
    (n, h, w, c), (kh, kw), (sh, sw), (dh, dw) = x.shape, kernel, strides, dilation
    ((top, _), (left, _)), (_, ho, wo, _) = padding, dy.shape
    y, dx = np.full(dy.shape, -np.inf), np.zeros(x.shape)
    for image, row, column, channel in np.ndindex(n, ho, wo, c):
        best = None
        for i, j in np.ndindex(kh, kw):
            a, b = row * sh + i * dh - top, column * sw + j * dw - left
            if (
                0 <= a < h
                and 0 <= b < w
                and (best is None or x[image, a, b, channel] > y[image, row, column, channel])
            ):
                y[image, row, column, channel] = x[image, a, b, channel]
                best = a, b
        if best:
            dx[image, *best, channel] += dy[image, row, column, channel]
    return y, dx


@st.composite
def calls(draw):
    kernel, strides, dilation = (
        draw(st.tuples(st.integers(1, most), st.integers(1, most))) for most in (4, 3, 3)
    )
    pair = st.tuples(st.integers(0, 3), st.integers(0, 3))
    padding = draw(st.one_of(st.sampled_from(["SAME", "VALID"]), st.tuples(pair, pair)))
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = [max(draw(st.integers(1, 9)), e) for e in extent]
    channels = draw(st.sampled_from([1, 3, 33]))
    geometry = {"strides": strides, "padding": padding, "dilation": dilation}
    return (
        (draw(st.integers(1, 2)), *size, channels),
        kernel,
        geometry,
        draw(st.sampled_from(DTYPES)),
    )


@pytest.mark.sampled
@sampled
@given(case=calls())
def test_sampled_pools(case):
    shape, kernel, geometry, dtype = case
    rng = np.random.default_rng(shape)
    with jax.enable_x64(dtype == "float64"):
        x = rng.integers(-3, 4, shape)  # few values, many of them equal
        x = jnp.asarray(np.where(x == -3, -np.inf, x), dtype)

        @jax.jit
        def passes(x):
            y, vjp = jax.vjp(lambda x: kernels.max_pool(x, kernel, **geometry), x)
            dy = (jnp.arange(y.size) % 11 - 5).reshape(y.shape).astype(y.dtype)
            return kernels.max_pool(x, kernel, **geometry), y, dy, vjp(dy)[0]

        inferred, y, dy, dx = passes(x)
    assert y.dtype == dx.dtype == x.dtype
    padding = explicit_padding(geometry["padding"], shape, kernel, geometry)
    want, gradient = reference(
        np.float64(x), np.float64(dy), kernel, geometry["strides"], padding, geometry["dilation"]
    )
    np.testing.assert_array_equal(np.float64(y), want)
    np.testing.assert_array_equal(np.float64(inferred), want)
    np.testing.assert_array_equal(dx, gradient.astype(dx.dtype))


def test_windows_with_more_than_128_values():
    x = jnp.zeros((1, 20, 20, 1)).at[0, 15, 16, 0].set(1.0)
    dx = jax.grad(lambda x: kernels.max_pool(x, 20).sum())(x)
    np.testing.assert_array_equal(dx, x)


def test_nan_propagates_and_padding_does_not():
    x = jnp.full((1, 4, 4, 1), -5.0).at[0, 0, 1, 0].set(jnp.nan)
    y, vjp = jax.vjp(lambda x: kernels.max_pool(x, 2, padding=2), x)
    assert jnp.isneginf(y[0, 0, 0, 0])
    assert y[0, 1:3, 1:3, 0].ravel().tolist()[1:] == [-5.0] * 3
    assert jnp.isnan(y[0, 1, 1, 0])
    assert jnp.isnan(kernels.max_pool(x, 2, padding=2)[0, 1, 1, 0])
    dx = vjp(jnp.ones_like(y))[0]
    assert dx[0, 0, 1, 0] == 1
    assert dx.sum() == 4


def distinct_values(*shape):
    """Values that differ by more than the step of finite differences."""
    return jax.random.permutation(jax.random.key(0), np.prod(shape)).reshape(shape) / 8.0


POOLS = [
    {"size": 2},
    {"size": 3, "strides": 2, "padding": 1},
    {"size": 3, "strides": 1, "padding": "SAME", "dilation": 2},
    {"size": (2, 3), "strides": (3, 2), "dilation": (2, 3)},
]


@pytest.mark.parametrize("pool", POOLS)
def test_derivatives_of_both_orders(pool):
    with jax.enable_x64(True):
        x = distinct_values(2, 7, 9, 2).astype(jnp.float64)
        f = jax.jit(lambda x: jnp.sin(kernels.max_pool(x, **pool)))
        check_grads(f, (x,), order=2, modes=["rev"])


@pytest.mark.parametrize("pool", POOLS)
def test_inside_vmap_checkpoint_and_scan(pool):
    x = distinct_values(3, 2, 7, 9, 2)

    def grad(x):
        return jax.grad(lambda x: (kernels.max_pool(x, **pool) ** 2).sum())(x)

    want = jnp.stack([grad(each) for each in x])
    np.testing.assert_array_equal(jax.jit(jax.vmap(grad))(x), want)

    def scanned(x):
        step = jax.checkpoint(lambda _, x: (_, (kernels.max_pool(x, **pool) ** 2).sum()))
        return jax.lax.scan(step, 0.0, x)[1].sum()

    np.testing.assert_array_equal(jax.jit(jax.grad(scanned))(x), want)


X = jnp.zeros((1, 4, 4, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kernels.max_pool(X[0], 2), r"x must be \[N, H, W, C\].*\(4, 4, 3\)"),
        (lambda: kernels.max_pool(X.astype(int), 2), "x must be of a dtype of float32.*int32"),
        (lambda: kernels.max_pool(X, 0), "size must be an integer of at least 1, got 0"),
        (lambda: kernels.max_pool(X, (1, 2, 3)), r"size must be .*\(1, 2, 3\)"),
        (lambda: kernels.max_pool(X, 2, strides=0), "strides must be .*got 0"),
        (lambda: kernels.max_pool(X, 5), r"5x5 .* does not fit into x of shape \(1, 4, 4, 3\)"),
        (lambda: kernels.max_pool(X, 2, padding="FULL"), "'FULL'"),
        (lambda: kernels.max_pool(X, 2, implementation="magic"), "unknown implementation 'magic'"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_explain_lists_each_pass():
    grad = jax.grad(lambda x: kernels.max_pool(x, 2).sum())
    chosen = [(c.pass_name, c.platform, c.implementation) for c in kernels.explain(grad, X)]
    assert sorted(chosen) == [
        ("backward", "any", "xla"),
        ("backward", "cpu", "cpu"),
        ("forward_saving", "any", "xla"),
        ("forward_saving", "cpu", "cpu"),
    ]
