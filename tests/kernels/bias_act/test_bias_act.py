"""Bias + residual + activation against the plain composition and its automatic gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo_kernels as kernels
from tests.kernels.cases import OPTIMISED
from zoo_kernels.core.activations import ACTIVATIONS

PLAIN = {
    "identity": lambda z: z,
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "hard_swish": jax.nn.hard_swish,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "gelu_exact": lambda z: jax.nn.gelu(z, approximate=False),
}

KEYS = jax.random.split(jax.random.key(0), 4)
X = 4 * jax.random.normal(KEYS[0], (2, 5, 4, 3))
BIAS = jax.random.normal(KEYS[1], (3,))
RESIDUAL = jax.random.normal(KEYS[2], X.shape)
WEIGHTS = jax.random.normal(KEYS[3], X.shape)


def test_every_activation_is_tested():
    assert PLAIN.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("act", PLAIN)
@pytest.mark.parametrize("residual", [None, RESIDUAL], ids=["", "residual"])
def test_value_and_gradients(act, residual):
    def ours(x, bias, residual):
        return (kernels.bias_act(x, bias, act, residual=residual) * WEIGHTS).sum()

    def plain(x, bias, residual):
        z = x + bias if residual is None else x + bias + residual
        return (PLAIN[act](z) * WEIGHTS).sum()

    arguments = (X, BIAS, residual)
    got, want = (
        jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2)), compiler_options=OPTIMISED)(*arguments)
        for f in (ours, plain)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), got, want)


@pytest.mark.parametrize("act", ["silu", "sigmoid", "elu"])
def test_second_derivative(act):
    def second_gradient(f):
        return jax.grad(lambda x: (jax.grad(lambda x: (f(x) ** 2).sum())(x) * WEIGHTS).sum())(X)

    got = second_gradient(lambda x: kernels.bias_act(x, BIAS, act))
    want = second_gradient(lambda x: PLAIN[act](x + BIAS))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_derivative_is_zero_at_the_kinks_of_relu6():
    x = jnp.array([[0.0], [6.0]])
    derivatives = jax.grad(lambda x: kernels.bias_act(x, jnp.zeros(1), "relu6").sum())(x)
    assert derivatives.ravel().tolist() == [0.0, 0.0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("act", ["identity", "relu", "relu6", "silu"])
@pytest.mark.parametrize("residual", [False, True])
def test_half_precision_by_xla_adds_the_bias_in_that_type(dtype, act, residual):
    """As it fuses it with a convolution then; its error is that of rounding twice, and the bias."""
    rng = np.random.default_rng(0)
    x, r = (jnp.asarray(rng.normal(size=(64, 40)), dtype) for _ in range(2))
    bias = jnp.asarray(rng.normal(size=40), jnp.float32)
    options = {"residual": r} if residual else {}
    got = kernels.bias_act(x, bias, act, implementation="xla", **options)
    assert got.dtype == x.dtype
    with jax.enable_x64():
        z = np.float64(x) + np.float64(bias) + (np.float64(r) if residual else 0)
        want = np.asarray(PLAIN[act](z))
    unit = float(jnp.finfo(dtype).eps) / 2
    size = np.abs(np.float64(x)) + 2 * np.abs(np.float64(bias)) + np.abs(np.float64(r))
    assert (np.abs(np.float64(got) - want) <= 3 * unit * size).all()
    gradient = jax.grad(
        lambda b: (
            kernels.bias_act(x, b, act, implementation="xla", **options).astype("float32").sum()
        )
    )(bias)
    assert gradient.dtype == bias.dtype  # which is summed in it


def test_bfloat16_is_rounded_once():
    """x + bias is 1 + 2⁻⁸, which bfloat16 cannot hold, so a second rounding would show."""
    x = jnp.ones((1, 1), jnp.bfloat16)
    bias = jnp.full(1, 2.0**-8, jnp.bfloat16)
    residual = jnp.full((1, 1), 2.0**-8, jnp.bfloat16)
    y = kernels.bias_act(x, bias, "identity", residual=residual)
    assert y.dtype == jnp.bfloat16
    assert float(y[0, 0]) == 1 + 2.0**-7


def test_numpy_arrays_are_accepted():
    x = np.ones((2, 3))
    y = kernels.bias_act(x, np.ones(3), residual=x)
    assert y.tolist() == [[3.0] * 3] * 2


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((X, BIAS, "rely"), {}, ValueError, "act must be one of .*'rely'"),
        ((X, BIAS[:2]), {}, ValueError, r"bias must be .* shape \(3,\).*float32\[2\]"),
        ((X.astype(int), BIAS), {}, ValueError, "floating point.*int32"),
        ((X[:0], BIAS), {}, ValueError, r"not empty, got float32\[0, 5"),
        ((X, BIAS.astype(int)), {}, ValueError, "bias must be floating point.*int32"),
        ((X, BIAS), {"residual": RESIDUAL[:1]}, ValueError, r"residual must be like x.*1, 5"),
    ],
)
def test_errors_name_the_argument(arguments, options, error, message):
    with pytest.raises(error, match=message):
        kernels.bias_act(*arguments, **options)
