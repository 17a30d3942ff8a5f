"""Instance normalisation against its definition: float64 values, automatic gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo_kernels as kernels
from tests.kernels.gpu import lower_for_gpu

KEYS = jax.random.split(jax.random.key(0), 6)
# Three images whose means and deviations differ.
X = jax.random.normal(KEYS[0], (3, 5, 6, 4)) * jnp.array([1.0, 3.0, 0.5])[:, None, None, None]
X = X + jnp.array([0.0, 5.0, -20.0])[:, None, None, None]
SHARED = jax.random.uniform(KEYS[1], (4,), minval=0.5, maxval=2), jax.random.normal(KEYS[2], (4,))
OWN = tuple(jnp.stack([array, 2 * array, 1 - array]) for array in SHARED)  # [N, C]
PARAMETERS = {"shared": SHARED, "own": OWN, "own scale": (OWN[0], SHARED[1])}
RESIDUAL = jax.random.normal(KEYS[3], X.shape)
WEIGHTS = jax.random.normal(KEYS[4], X.shape)
# Roundings of 30 values whose mean is up to 40 deviations away.
TOLERANCE = 2e-4
ACTS = {"identity": lambda z: z, "relu": jax.nn.relu, "silu": jax.nn.silu}


def reference(x, scale, bias, residual, act, eps):
    mean, var = x.mean((1, 2)), x.var((1, 2))
    scale, bias = (jnp.broadcast_to(a, mean.shape)[:, None, None] for a in (scale, bias))
    z = (x - mean[:, None, None]) / jnp.sqrt(var + eps)[:, None, None] * scale + bias
    return ACTS[act](z if residual is None else z + residual), mean, var


@pytest.mark.parametrize("parameters", PARAMETERS)
@pytest.mark.parametrize(
    ("act", "residual"), [("identity", None), ("relu", RESIDUAL), ("silu", RESIDUAL)]
)
def test_value_and_gradients(parameters, act, residual):
    """The loss uses the statistics too, so their gradients count."""

    def loss(f, *arrays):
        def value(x, scale, bias, residual):
            y, mean, var = f(x, scale, bias, residual)
            return (y * WEIGHTS).sum() + (mean * jnp.arange(4)).sum() + (var**2).sum()

        return jax.value_and_grad(value, argnums=(0, 1, 2, 3))(*arrays)

    arrays = (X, *PARAMETERS[parameters], residual)
    got = loss(
        lambda x, s, b, r: kernels.instance_norm(x, s, b, eps=1e-3, act=act, residual=r), *arrays
    )
    with jax.enable_x64(True):
        exact = jax.tree.map(np.float64, arrays)
        want = loss(lambda x, s, b, r: reference(x, s, b, r, act, 1e-3), *exact)
        want = jax.device_get(want)
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE * np.abs(theirs).max())


def test_statistics_are_those_of_each_image():
    _, mean, var = kernels.instance_norm(X, *SHARED)
    exact = np.asarray(X, np.float64)
    np.testing.assert_allclose(mean, exact.mean((1, 2)), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(var, exact.var((1, 2)), rtol=1e-5)


def test_each_image_is_a_batch_of_one():
    y, mean, var = kernels.instance_norm(X, *OWN, act="relu", residual=RESIDUAL)
    for n in range(len(X)):
        want = kernels.batch_norm(
            X[n : n + 1], OWN[0][n], OWN[1][n], act="relu", residual=RESIDUAL[n : n + 1]
        )
        np.testing.assert_allclose(y[n], want[0][0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(mean[n], want[1], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(var[n], want[2], rtol=1e-5)


def test_an_even_image_becomes_the_bias():
    """Its variance is 0, to which eps is added; sums of 0.5 are exact."""
    scale, bias = OWN
    y, _, var = kernels.instance_norm(jnp.full_like(X, 0.5), scale, bias)
    np.testing.assert_array_equal(var, 0)
    np.testing.assert_allclose(y, jnp.broadcast_to(bias[:, None, None], y.shape))


def test_statistics_of_bfloat16_are_float32():
    y, mean, var = kernels.instance_norm(X.astype(jnp.bfloat16), *OWN)
    assert (y.dtype, mean.dtype, var.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((X[0], *SHARED), {}, r"x must be \[N, H, W, C\], got \(5, 6, 4\)"),
        ((X, SHARED[0][:3], SHARED[1]), {}, r"scale must be \[4\] or \[3, 4\] .*got \(3,\)"),
        ((X, SHARED[0], OWN[1][:2]), {}, r"bias must be \[4\] or \[3, 4\] .*got \(2, 4\)"),
        ((X, *SHARED), {"residual": X[:1]}, r"residual must be like x, \(3, 5, 6, 4\), got \(1, 5"),
        ((X.astype(int), *SHARED), {}, "floating point.*int32"),
        ((X, *SHARED), {"act": "?"}, "act must be one of"),
        ((X, *SHARED), {"eps": -1.0}, "eps must be a number of at least 0, got -1"),
        ((X, *SHARED), {"implementation": "?"}, "unknown implementation"),
    ],
)
def test_errors_name_the_argument(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        kernels.instance_norm(*arguments, **options)


def loss_of(implementation, x, scale, bias, residual):
    y = kernels.instance_norm(
        x, scale, bias, act="relu", residual=residual, implementation=implementation
    )[0]
    return (jnp.sin(y) * y).sum()


@pytest.mark.triton
@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("parameters", ["shared", "own"])
def test_triton_agrees_with_xla(parameters):
    got, want = (
        jax.jit(jax.value_and_grad(loss_of, argnums=(1, 2, 3, 4)), static_argnums=0)(
            implementation, X, *PARAMETERS[parameters], RESIDUAL
        )
        for implementation in ("triton", "xla")
    )
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE * np.abs(theirs).max())


@pytest.mark.filterwarnings("ignore:jax has deprecated the backend")
def test_lowers_for_a_gpu():
    """With gradients, and with norms of each image's own: by whatever is chosen there."""
    text = lower_for_gpu(
        lambda *a: jax.value_and_grad(lambda *b: loss_of(None, *b), argnums=(0, 1, 2, 3))(*a),
        *(X, *OWN, RESIDUAL),
    )
    assert "__gpu$xla.gpu.triton" in text
