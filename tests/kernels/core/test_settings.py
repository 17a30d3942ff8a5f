"""Operators under the settings of jax that change how programs are traced."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo_kernels as kernels
from tests.kernels.gpu import lower_for_gpu
from zoo_kernels.core.activations import ACTIVATIONS


def x64():
    return jax.enable_x64(True)


@contextlib.contextmanager
def strict_promotion():
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


SETTINGS = {
    "x64": x64,
    "disable_jit": jax.disable_jit,
    "strict promotion": strict_promotion,
}


def array(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def batch_norm(x, scale, bias, residual):
    y, mean, var = kernels.batch_norm(x, scale, bias, act="relu", residual=residual)
    return y + jax.lax.broadcast_in_dim(mean * var, y.shape, (3,))


def recomputed(x, scale, bias, w):
    y, _, _ = kernels.batch_norm(x, scale, bias, act="relu6", recompute=True)
    return kernels.conv(y, w)


X, C, OTHER = array(2, 6, 5, 8), array(8), array(2, 6, 5, 8, seed=1)
CASES = {
    "conv": (kernels.conv, X, array(3, 3, 8, 4)),
    "conv, grouped": (lambda x, w: kernels.conv(x, w, groups=2), X, array(3, 3, 4, 4)),
    "conv 1x1, strides": (lambda x, w: kernels.conv(x, w, strides=2), X, array(1, 1, 8, 4)),
    "depthwise_conv": (kernels.depthwise_conv, X, array(3, 3, 1, 8)),
    "depthwise_conv with bias": (
        lambda x, w, b: kernels.depthwise_conv(x, w, bias=b, act="relu"),
        X,
        array(3, 3, 1, 16),
        array(16),
    ),
    "batch_norm": (batch_norm, X, C, C + 1, OTHER),
    "batch_norm, recomputed": (recomputed, X, C, C + 1, array(1, 1, 8, 4)),
    "batch_norm_inference": (
        lambda x, s, b, m: kernels.batch_norm_inference(x, s, b, m, m * m, act="relu"),
        X,
        C,
        C + 1,
        C - 1,
    ),
    "bias_act with residual": (
        lambda x, b, r: kernels.bias_act(x, b, "silu", residual=r),
        X,
        C,
        OTHER,
    ),
    "max_pool": (lambda x: kernels.max_pool(x, 3, strides=2, padding=1), X),
} | {
    f"bias_act, {act}": (lambda x, b, act=act: kernels.bias_act(x, b, act), X, C)
    for act in ACTIVATIONS
}  # fmt: skip


def value_and_gradients(function, *arrays):
    weights = array(*jax.eval_shape(function, *arrays).shape, seed=2)
    indices = range(len(arrays))
    return jax.value_and_grad(lambda *a: (function(*a) * weights).sum(), indices)(*arrays)


def assert_same(got, want):
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(
    ("case", "implementation"),
    [(case, None) for case in CASES] + [(case, "lax") for case in CASES if "bias_act," not in case],
)
@pytest.mark.slow
def test_values_and_gradients_are_the_same(case, implementation, setting):
    chosen = kernels.using("lax") if implementation else contextlib.nullcontext()
    with chosen:
        want = value_and_gradients(*CASES[case])
        with SETTINGS[setting]():
            got = value_and_gradients(*CASES[case])
    assert_same(got, want)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_float64_gradients_are_of_float64(act):
    """A derivative that was rounded to float32 on the way differs by 1e-8 at least."""
    with x64():
        z = jnp.asarray(np.linspace(-7, 7, 24).reshape(3, 8))
        assert z.dtype == jnp.float64
        bias = jnp.zeros(8)
        got = jax.grad(lambda z: kernels.bias_act(z, bias, act).sum())(z)
        step = 1e-6
        high, low = (kernels.bias_act(z + s, bias, act) for s in (step, -step))
        np.testing.assert_allclose(got, (high - low) / (2 * step), atol=3e-9)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize("case", [case for case in CASES if "bias_act," not in case])
@pytest.mark.slow
def test_other_dtypes_with_x64(case, dtype):
    with x64():
        function, *arrays = CASES[case]
        arrays = [a.astype(dtype) for a in arrays]
        gradients = jax.grad(lambda *a: function(*a).astype(float).sum(), range(len(arrays)))
        for gradient in gradients(*arrays):
            assert gradient.dtype == jnp.dtype(dtype)


@pytest.mark.triton
@pytest.mark.filterwarnings("ignore:jax has deprecated:DeprecationWarning")
@pytest.mark.parametrize("setting", ["x64", "strict promotion"])
@pytest.mark.parametrize(
    "case", ["depthwise_conv with bias", "batch_norm", "bias_act with residual"]
)
def test_gradients_are_lowered_for_a_gpu(case, setting):
    """With the Triton kernels, whose bodies are traced at that moment."""
    function, *arrays = CASES[case]

    def gradients(*arrays):
        return jax.grad(lambda *a: jnp.square(function(*a)).sum(), range(len(arrays)))(*arrays)

    with SETTINGS[setting](), kernels.using("triton"):
        assert "triton" in lower_for_gpu(gradients, *arrays)
