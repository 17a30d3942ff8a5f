"""Bias + residual + activation against the plain composition and its automatic gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo_kernels as kernels
from tests.kernels.cases import OPTIMISED
from zoo_kernels.bias_act import BiasActSpec, cudnn
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
@pytest.mark.parametrize("act", cudnn.ACTS)
@pytest.mark.parametrize("residual", [False, True])
def test_half_precision_inside_a_convolution(dtype, act, residual):
    """What a GPU's compiler is given: its error is that of rounding twice, and of the bias."""
    rng = np.random.default_rng(0)
    x, r = (jnp.asarray(rng.normal(size=(64, 40)), dtype) for _ in range(2))
    bias = jnp.asarray(rng.normal(size=40), jnp.float32)
    spec, r = BiasActSpec(act, residual), r if residual else jnp.zeros_like(x)
    got = cudnn.IMPLEMENTATION.passes["forward"](spec, x, None, bias, r if residual else None)
    assert got.dtype == x.dtype
    x, bias, r = (np.float64(each) for each in (x, bias, r))
    with jax.enable_x64():
        want = np.asarray(PLAIN[act](x + bias + r))
    unit = float(jnp.finfo(dtype).eps) / 2
    assert (np.abs(np.float64(got) - want) <= 3 * unit * (abs(x) + 2 * abs(bias) + abs(r))).all()


def test_second_derivatives_in_half_precision():
    """A bias's sums over rows are in float32, however often it is differentiated."""
    x, bias = jnp.ones((20_000, 1), jnp.bfloat16), jnp.ones(1)

    def loss(call):
        return lambda bias: (call(bias).astype("float32") ** 2).mean()

    spec = BiasActSpec("relu", False)
    forward = cudnn.IMPLEMENTATION.passes["forward"]
    for call in (
        lambda bias: kernels.bias_act(x, bias),
        lambda bias: kernels.bias_act(x, bias, implementation="xla"),
    ):
        second = jax.grad(lambda b, call=call: jax.grad(loss(call))(b).sum())(bias)
        assert abs(second[0] - 2) < 0.02
    first = jax.grad(loss(lambda bias: forward(spec, x, None, bias, None)))(bias)
    assert abs(first[0] - 4) < 0.04


def test_where_cudnn_takes_the_bias():
    half = jnp.ones((2, 4), jnp.bfloat16)

    def choose(x, act="relu", **options):
        choices = kernels.explain(kernels.bias_act, x, jnp.ones(4), act, **options)
        found = {choice.platform: choice.implementation for choice in choices}
        return found.get("cuda", found["any"])

    assert choose(half) == "cudnn"
    assert choose(half, residual=half) == "cudnn"
    assert choose(half, "silu") == "xla"
    assert choose(half.astype("float32")) == "xla"
    single = half.astype("float16")
    assert choose(single) == "cudnn"
    assert choose(single, residual=single) == "xla"  # of which a part may overflow


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
