"""The convolutions in their fast forms against their definitions, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.style.convolutions import extend, mirror, mirrored_conv, repeated_conv, transposed_conv

# Sums of up to 9 · 9 · 3 products of numbers about 1, in float32.
TOLERANCE = 1e-4


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def convolve(x, kernel, strides=1):
    """By definition: every window of an input without padding, times the kernel."""
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
    return np.einsum("nhwcyx,yxcf->nhwf", windows[:, ::strides, ::strides], kernel)


def reflect(x, pad):
    return np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)], "reflect")


def check_with_gradients(got, x, kernel, definition):
    """Compares a function of (x, kernel) with its definition, and its gradients.

    The definition is linear in either argument, so that the gradient's product with any other
    argument is known without one: ⟨w, f(x', k)⟩.
    """
    want = definition(x, kernel)
    y, vjp = jax.vjp(got, jnp.float32(x), jnp.float32(kernel))
    np.testing.assert_allclose(y, want, atol=TOLERANCE)
    w = draw(*want.shape, seed=2)
    dx, dkernel = map(np.float64, vjp(jnp.float32(w)))
    other_x, other_kernel = draw(*x.shape, seed=3), draw(*kernel.shape, seed=4)
    for found, exact in (
        ((dx * other_x).sum(), (w * definition(other_x, kernel)).sum()),
        ((dkernel * other_kernel).sum(), (w * definition(x, other_kernel)).sum()),
    ):
        np.testing.assert_allclose(found, exact, atol=TOLERANCE * np.sqrt(w.size) * 10)


@pytest.mark.parametrize(
    ("k", "strides", "block"), [(3, 1, 1), (3, 2, 1), (9, 1, 1), (9, 1, 2), (9, 1, 4), (3, 1, 4)]
)
def test_mirrored_conv(k, strides, block):
    check_with_gradients(
        lambda x, kernel: mirrored_conv(x, kernel, strides, block),
        draw(2, 8, 12, 3),
        draw(k, k, 3, 2, seed=1),
        lambda x, kernel: convolve(reflect(x, k // 2), kernel, strides),
    )


@pytest.mark.parametrize("size", [(5, 4), (1, 3)])
def test_repeated_conv(size):
    check_with_gradients(
        repeated_conv,
        draw(2, *size, 3),
        draw(3, 3, 3, 2, seed=1),
        lambda x, kernel: convolve(reflect(x.repeat(2, 1).repeat(2, 2), 1), kernel),
    )


def scatter(x, kernel):
    """Pixel i, times the kernel, goes to pixels 2 i − 1 … 2 i + 1."""
    n, height, width, _ = x.shape
    y = np.zeros((n, 2 * height + 1, 2 * width + 1, kernel.shape[3]))  # begins a pixel before
    for row in range(height):
        for column in range(width):
            part = np.einsum("nc,yxcf->nyxf", x[:, row, column], kernel)
            y[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3] += part
    return y[:, 1:, 1:]


def test_transposed_conv():
    check_with_gradients(transposed_conv, draw(2, 3, 4, 5), draw(3, 3, 5, 2, seed=1), scatter)


@pytest.mark.parametrize(
    ("function", "want"),
    [(mirror, [3, 2, 1, 2, 3, 4, 3, 2]), (extend, [1, 1, 1, 2, 3, 4, 4, 4])],
    ids=["mirror", "extend"],
)
def test_borders(function, want):
    row = jnp.array([1.0, 2, 3, 4])
    y = function(jnp.outer(10 * row, row)[None, :, :, None], 2)[0, :, :, 0]
    np.testing.assert_array_equal(y, np.outer(10 * np.array(want), want))


@pytest.mark.parametrize("function", [mirror, extend])
def test_gradients_at_borders(function):
    """Each border pixel's goes to the pixel that it was taken from."""
    x = jnp.zeros((1, 4, 4, 1))
    taken = np.asarray(function(jnp.arange(16.0).reshape(1, 4, 4, 1), 2)).astype(int).ravel()
    dy = draw(1, 8, 8, 1)
    (dx,) = jax.vjp(lambda x: function(x, 2), x)[1](jnp.float32(dy))
    sums = np.bincount(taken, weights=dy.ravel(), minlength=16)
    np.testing.assert_allclose(dx.ravel(), sums, atol=1e-5)
