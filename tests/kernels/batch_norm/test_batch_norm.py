"""Batch normalisation against its definition: float64 values, automatic gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo_kernels as kernels

KEYS = jax.random.split(jax.random.key(0), 5)
X = 3 * jax.random.normal(KEYS[0], (4, 5, 6, 3)) + jnp.array([0.0, 5.0, -20.0])
SCALE = jax.random.uniform(KEYS[1], (3,), minval=0.5, maxval=2)
BIAS = jax.random.normal(KEYS[2], (3,))
RESIDUAL = jax.random.normal(KEYS[3], X.shape)
WEIGHTS = jax.random.normal(KEYS[4], X.shape)
ACTS = {"identity": lambda z: z, "relu": jax.nn.relu, "silu": jax.nn.silu}


def reference(x, scale, bias, residual, act, eps):
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    z = (x - mean) / jnp.sqrt(var + eps) * scale + bias
    return ACTS[act](z if residual is None else z + residual), mean, var


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("residual", [None, RESIDUAL], ids=["", "residual"])
def test_value_and_gradients(act, residual):
    """The loss uses the statistics too, so their gradients count."""

    def loss(f):
        def value(x, scale, bias, residual):
            y, mean, var = f(x, scale, bias, residual)
            return (y * WEIGHTS).sum() + (mean * jnp.arange(3)).sum() + (var**2).sum()

        return jax.value_and_grad(value, argnums=(0, 1, 2, 3))(X, SCALE, BIAS, residual)

    got = loss(lambda x, s, b, r: kernels.batch_norm(x, s, b, eps=1e-3, act=act, residual=r))
    want = loss(lambda x, s, b, r: reference(x, s, b, r, act, 1e-3))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), got, want)


def test_variance_is_accurate_for_a_mean_far_from_zero():
    """Mean 10⁴, deviation 1: E[x²] − E[x]² in float32 would lose the variance entirely."""
    x = jax.random.normal(jax.random.key(1), (10, 224, 224, 2)) + 1e4
    exact = np.asarray(x, np.float64)
    y, mean, var = kernels.batch_norm(x, jnp.ones(2), jnp.zeros(2), eps=0.0)
    np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=2e-7)
    np.testing.assert_allclose(var, exact.var((0, 1, 2)), rtol=1e-3)
    want = (exact - exact.mean((0, 1, 2))) / exact.std((0, 1, 2))
    np.testing.assert_allclose(y, want, atol=2e-3)  # float32's spacing at 10⁴ is 10⁻³


def test_statistics_over_a_mapped_axis_equal_those_of_the_whole_batch():
    def forward_and_dx(x, weights, axis_name):
        def f(x):
            return kernels.batch_norm(x, SCALE, BIAS, act="relu", axis_name=axis_name)

        (y, mean, var), vjp = jax.vjp(f, x)
        return y, mean, var, vjp((weights, jnp.ones(3), jnp.ones(3)))[0]

    whole = forward_and_dx(X, WEIGHTS, None)
    each = jax.vmap(lambda x, w: forward_and_dx(x, w, "devices"), axis_name="devices")
    y, mean, var, dx = each(X[:, None], WEIGHTS[:, None])
    np.testing.assert_allclose(y[:, 0], whole[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean, jnp.broadcast_to(whole[1], mean.shape), rtol=1e-5)
    np.testing.assert_allclose(var, jnp.broadcast_to(whole[2], var.shape), rtol=1e-5)
    # Each of the 4 devices has cotangents of 1 for the statistics, whose sum is 4.
    expected_dx = jax.vjp(lambda x: kernels.batch_norm(x, SCALE, BIAS, act="relu"), X)[1](
        (WEIGHTS, jnp.full(3, 4.0), jnp.full(3, 4.0))
    )[0]
    np.testing.assert_allclose(dx[:, 0], expected_dx, rtol=1e-4, atol=1e-5)


def test_statistics_of_bfloat16_are_float32():
    y, mean, var = kernels.batch_norm(X.astype(jnp.bfloat16), SCALE, BIAS)
    assert (y.dtype, mean.dtype, var.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((X, SCALE[:2], BIAS), {}, ValueError, r"scale must be .* shape \(3,\).*float32\[2\]"),
        ((X, SCALE, BIAS[:1]), {}, ValueError, r"bias must be .* shape \(3,\).*float32\[1\]"),
        ((X[0, 0, 0], SCALE, BIAS), {}, ValueError, r"something to average.*\(3,\)"),
        ((X.astype(int), SCALE, BIAS), {}, ValueError, "floating point.*int32"),
        ((X, SCALE, BIAS), {"act": "?"}, ValueError, "act must be one of"),
        (
            (X, SCALE, BIAS),
            {"eps": -1e-3},
            ValueError,
            "eps must be a number of at least 0, got -0.001",
        ),
        ((X[:0], SCALE, BIAS), {}, ValueError, r"not empty, got float32\[0, 5"),
        ((X, SCALE, BIAS), {"residual": X[0]}, ValueError, "residual must be like x"),
    ],
)
def test_errors_name_the_argument(arguments, options, error, message):
    with pytest.raises(error, match=message):
        kernels.batch_norm(*arguments, **options)


def test_inference_is_bias_act_of_a_scaled_input():
    """With given statistics, and the gradients with respect to them."""
    mean, var = jnp.array([0.0, 5.0, -20.0]), jnp.array([9.0, 8.0, 10.0])

    def loss(f):
        arguments = (X, SCALE, BIAS, mean, var, RESIDUAL)
        return jax.value_and_grad(
            lambda *a: (f(*a) * WEIGHTS).sum(), argnums=tuple(range(len(arguments)))
        )(*arguments)

    def reference_inference(x, scale, bias, mean, var, residual):
        return jax.nn.silu((x - mean) / jnp.sqrt(var + 1e-3) * scale + bias + residual)

    got = loss(lambda *a: kernels.batch_norm_inference(*a[:5], eps=1e-3, act="silu", residual=a[5]))
    want = loss(reference_inference)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), got, want)


def test_errors_of_inference_name_the_argument():
    with pytest.raises(ValueError, match=r"batch_norm_inference: var must be .*float32\[2\]"):
        kernels.batch_norm_inference(X, SCALE, BIAS, BIAS, BIAS[:2])
