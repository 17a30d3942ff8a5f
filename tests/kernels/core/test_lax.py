"""The implementation in plain lax and jnp, which jax differentiates in every mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo_kernels as kernels
from tests.kernels.core.test_settings import (
    CASES,
    OTHER,
    X,
    array,
    assert_same,
    value_and_gradients,
)
from zoo_kernels.core.activations import ACTIVATIONS


def tangents(arrays):
    return tuple(array(*a.shape, seed=3 + i) for i, a in enumerate(arrays))


@pytest.mark.parametrize("case", CASES)
def test_equals_the_default(case):
    want = value_and_gradients(*CASES[case])
    with kernels.using("lax"):
        got = value_and_gradients(*CASES[case])
    # Sums in another order, on values of about 1.
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("case", CASES)
def test_forward_mode(case):
    """The directional derivative is the gradient's product with the direction."""
    function, *arrays = CASES[case]
    directions = tangents(arrays)
    with kernels.using("lax"):
        y, tangent = jax.jvp(function, tuple(arrays), directions)
        weights = array(*y.shape, seed=2)
    _, gradients = value_and_gradients(function, *arrays)
    want = sum(jnp.vdot(g, d) for g, d in zip(gradients, directions, strict=True))
    np.testing.assert_allclose(jnp.vdot(tangent, weights), want, rtol=1e-3, atol=1e-3)


def test_forward_mode_is_refused_without():
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(lambda x: kernels.max_pool(x, 2), (X,), (X,))


def test_jacobians_and_products_with_hessians():
    w = array(3, 3, 1, 8)

    def loss(x):
        y, _, _ = kernels.batch_norm(
            kernels.depthwise_conv(x, w), w[0, 0, 0], w[1, 1, 0], act="silu"
        )
        return jnp.square(kernels.max_pool(y, 2)).sum()

    with kernels.using("lax"):
        product = jax.jvp(jax.grad(loss), (X,), (OTHER,))[1]
        assert jax.jacfwd(loss)(X).shape == X.shape
    # Reverse over reverse needs no forward mode.
    want = jax.grad(lambda x: jnp.vdot(jax.grad(loss)(x), OTHER))(X)
    np.testing.assert_allclose(product, want, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_kinks_have_the_same_derivative(act):
    z, zero = jnp.asarray([[-3.0, 0.0, 3.0, 6.0]]), jnp.zeros(4)
    gradient = jax.grad(lambda z: kernels.bias_act(z, zero, act).sum())
    want = gradient(z)
    with kernels.using("lax"):
        got = gradient(z)
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_nan_stays(act):
    with kernels.using("lax"):
        y = kernels.bias_act(jnp.asarray([[jnp.nan, 1.0]]), jnp.zeros(2), act)
    assert np.isnan(y[0, 0])


@pytest.mark.parametrize(("dilation", "padding"), [(1, 1), (2, 1), (1, 0)])
def test_max_pool_of_equal_values(dilation, padding):
    x = jnp.zeros((1, 6, 6, 1))

    def total(x):
        y = kernels.max_pool(x, 3, strides=1, padding=padding, dilation=dilation)
        return (y * array(*y.shape)).sum()

    want = jax.grad(total)(x)
    with kernels.using("lax"):
        got = jax.grad(total)(x)
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_no_custom_gradient_and_no_platform_is_left():
    function, *arrays = CASES["batch_norm"]
    with kernels.using("lax"):
        text = str(
            jax.make_jaxpr(lambda *a: kernels.conv(function(*a), array(3, 3, 8, 4)))(*arrays)
        )
    assert "custom" not in text
    assert "platform" not in text


def test_requests():
    function, *arrays = CASES["depthwise_conv with bias"]
    jitted = jax.jit(function)
    jitted(*arrays)
    with kernels.using("lax"):
        (choice,) = kernels.explain(function, *arrays)
        assert (choice.op, choice.implementation) == ("depthwise_bias_act", "lax")
        assert "custom_vjp" not in str(jitted.trace(*arrays).jaxpr)  # traced anew
        with kernels.using("xla"):
            assert {c.implementation for c in kernels.explain(function, *arrays)} == {"xla"}
        own = kernels.explain(kernels.conv, X, array(1, 1, 8, 4), implementation="xla")
        assert {c.implementation for c in own} == {"xla"}
    assert "lax" not in {c.implementation for c in kernels.explain(function, *arrays)}
    assert_same(
        kernels.conv(X, array(1, 1, 8, 4), implementation="lax"),
        kernels.conv(X, array(1, 1, 8, 4), implementation=("lax", "xla")),
    )


def test_unknown_names():
    with (
        pytest.raises(ValueError, match="unknown implementation 'laxx'; known: cpu, cudnn, lax"),
        kernels.using("laxx"),
    ):
        pass
    with pytest.raises(NotImplementedError, match="is direct, not fft"):
        kernels.conv(X, array(3, 3, 8, 4), algo="fft", implementation="lax")
