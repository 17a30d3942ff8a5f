"""Convolutions of recomputed activations, compared with those of activations that are kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import zoo_kernels as kernels
from tests.kernels.cases import draw
from zoo_kernels import RecomputableArray
from zoo_kernels.core import jax_compat

CONVOLUTIONS = {
    "conv": (lambda x, w: kernels.conv(x, w, padding="SAME"), (3, 3, 8, 8)),
    "grouped": (lambda x, w: kernels.conv(x, w, groups=2), (3, 3, 4, 8)),
    "depthwise_conv": (lambda x, w: kernels.depthwise_conv(x, w, strides=2), (3, 3, 1, 8)),
}
SHAPE = (2, 6, 5, 8)


def losses(name, dtype="float32"):
    """The loss of a norm and a convolution with and without recomputing, and its arguments."""
    convolve, shape = CONVOLUTIONS[name]

    def make_loss(recompute):
        def loss(x, scale, bias, w):
            z, mean, var = kernels.batch_norm(x, scale, bias, act="silu", recompute=recompute)
            y = convolve(z, w)
            return (jnp.sin(y).sum() + (mean * var).sum()).astype("float32")

        return loss

    arrays = [draw(s, dtype, i) for i, s in enumerate((SHAPE, SHAPE[3:], SHAPE[3:], shape))]
    return make_loss(True), make_loss(False), arrays


@pytest.mark.parametrize("jit", [jax.jit, kernels.jit, lambda f: f], ids=["jit", "ours", "eager"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_gradients_equal_those_without_recomputing(name, jit):
    recomputing, keeping, arrays = losses(name)
    got, want = (jit(jax.value_and_grad(f, (0, 1, 2, 3)))(*arrays) for f in (recomputing, keeping))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), got, want)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_gradients_of_any_order(name):
    with jax.enable_x64(True):
        recomputing, keeping, arrays = losses(name, "float64")
        check_grads(recomputing, arrays, order=2, modes=["rev"], atol=1e-4, rtol=1e-4)

        def second_gradient(f):
            return jax.grad(lambda x, *rest: jnp.square(jax.grad(f)(x, *rest)).sum())(*arrays)

        np.testing.assert_allclose(
            second_gradient(recomputing), second_gradient(keeping), rtol=1e-9, atol=1e-9
        )


def test_gradients_under_vmap():
    recomputing, keeping, (x, *rest) = losses("conv")
    many = jnp.stack([x, 2 * x + 1])
    got, want = (
        jax.vmap(jax.grad(f), (0, None, None, None))(many, *rest) for f in (recomputing, keeping)
    )
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_recomputing_takes_less_memory():
    """Of each layer's two large arrays one is kept. The compiler of jax 0.10 still keeps both."""

    def temporary_bytes(recompute):
        def loss(weights, x):
            for w in weights:
                y = kernels.conv(x, w)
                ones, zeros = jnp.ones(32), jnp.zeros(32)
                x, _, _ = kernels.batch_norm(y, ones, zeros, act="relu", recompute=recompute)
            x = x.value if recompute else x
            return jnp.square(x).sum()

        weights = [draw((3, 3, 32, 32), "float32", i) for i in range(8)]
        lowered = kernels.jit(jax.grad(loss)).lower(weights, draw((8, 32, 32, 32), "float32", 9))
        return lowered.compile().memory_analysis().temp_size_in_bytes

    limit = 0.75 if jax_compat.keeps_barriers() else 1.0
    assert temporary_bytes(True) <= limit * temporary_bytes(False)


def test_only_a_cpu_recomputes():
    recomputing, keeping, arrays = losses("conv")

    def barriers(f, platform):
        traced = jax.jit(jax.grad(f, 3)).trace(*arrays)
        return traced.lower(lowering_platforms=(platform,)).as_text().count("optimization_barrier")

    assert barriers(recomputing, "cpu") == barriers(keeping, "cpu") + 1
    assert barriers(recomputing, "tpu") == barriers(keeping, "tpu")


def test_astype_another_dtype_is_a_plain_array():
    x = draw((2, 4), "float32", 0)
    recomputable = RecomputableArray(x, jnp.tanh, (x,))
    assert recomputable.astype("float32") is recomputable
    assert recomputable.astype(jnp.bfloat16).dtype == jnp.bfloat16
    assert recomputable.shape == (2, 4)


def test_a_residual_is_refused():
    x, vector = draw(SHAPE, "float32", 0), jnp.ones(8)
    with pytest.raises(ValueError, match=r"recompute takes no residual, got one of \(2, 6, 5"):
        kernels.batch_norm(x, vector, vector, residual=x, recompute=True)
