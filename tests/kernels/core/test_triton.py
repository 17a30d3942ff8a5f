"""The Triton kernels: run by the interpreter, lowered for CUDA, and when they are chosen.

What they compute is tested on sampled calls (test_sampled_*), what they compile to in
benchmarks/gpu_model/test_machine_code, and their sharding by eight_devices.
"""

import functools
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo_kernels as kernels
from tests.kernels.cases import draw
from tests.kernels.gpu import lower_for_gpu
from zoo_kernels.core.pallas import launch

X, W, BIAS = draw((2, 4, 5, 4), "float32"), draw((2, 2, 1, 4), "float32"), draw((4,), "float32")
OPERATORS = {
    "depthwise": (
        lambda impl, x, w: kernels.depthwise_conv(x, w, strides=2, implementation=impl),
        (X, W),
    ),
    "depthwise, bias": (
        lambda impl, x, w, b: kernels.depthwise_conv(x, w, bias=b, act="silu", implementation=impl),
        (X, W, BIAS),
    ),
    "bias_act": (
        lambda impl, x, b, r: kernels.bias_act(x, b, "gelu", residual=r, implementation=impl),
        (X, BIAS, jnp.cos(X)),
    ),
    "batch_norm": (
        lambda impl, x, s, b: kernels.batch_norm(x, s, b, act="elu", implementation=impl)[0],
        (X, BIAS, BIAS),
    ),
}


def gradients(op, implementation, *arrays):
    def loss(*arrays):
        y = op(implementation, *arrays)
        return (jnp.sin(y) * y).sum()

    return jax.value_and_grad(loss, argnums=tuple(range(len(arrays))))(*arrays)


def assert_agree(got, want, atol=3e-5):
    """By default to what float32's roundings add up to, relative to the largest entry."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, atol=atol * np.abs(b).max())


@pytest.mark.triton
@pytest.mark.usefixtures("interpreted")
class TestInterpreted:
    @pytest.mark.parametrize("map_x", [True, False], ids=["x", "weights"])
    @pytest.mark.parametrize("name", OPERATORS)
    def test_vmap_of_values_and_gradients(self, name, map_x):
        op, arrays = OPERATORS[name]
        mapped = [(i == 0) == map_x for i in range(len(arrays))]
        stacked = [jnp.stack([a, 2 - a]) if m else a for a, m in zip(arrays, mapped, strict=True)]
        axes = [0 if m else None for m in mapped]
        got, want = (
            jax.jit(jax.vmap(lambda *a, impl=impl: gradients(op, impl, *a), in_axes=axes))(*stacked)
            for impl in ("triton", "xla")
        )
        assert_agree(got, want)

    @pytest.mark.parametrize("name", OPERATORS)
    def test_gradients_of_gradients(self, name):
        op, arrays = OPERATORS[name]

        def squared_gradients(impl, *arrays):
            return sum((g**2).sum() for g in gradients(op, impl, *arrays)[1])

        got, want = (
            jax.jit(jax.grad(squared_gradients, argnums=(1, 2)), static_argnums=0)(impl, *arrays)
            for impl in ("triton", "xla")
        )
        assert_agree(got, want)

    def test_sums_over_many_programs(self):
        """With enough rows for many programs, and for each of them to take several steps."""
        x, w = draw((8, 40, 40, 20), "float32"), draw((3, 3, 1, 20), "float32")

        def loss(x, w, impl):
            one = jnp.ones(20, x.dtype)
            y = kernels.depthwise_conv(x, w, implementation=impl)
            y = kernels.batch_norm(y, one, one, act="relu", implementation=impl)[0]
            return (y**3).sum()

        def loss_and_gradients(impl, x, w):
            return jax.jit(jax.value_and_grad(functools.partial(loss, impl=impl), (0, 1)))(x, w)

        with jax.enable_x64(True):
            exact = jax.device_get(loss_and_gradients("xla", np.float64(x), np.float64(w)))
        # The terms of 12 800 rows cancel: errors seen are 5e-5 of the largest entry, 8e-6 by XLA.
        assert_agree(loss_and_gradients("triton", x, w), exact, atol=1e-4)
        assert_agree(loss_and_gradients("xla", x, w), exact)

    @pytest.mark.parametrize("act", ["relu", "hard_swish"])
    def test_fused_bias_act_equals_separate_calls(self, act):
        y = kernels.depthwise_conv(X, W, strides=2, implementation="xla")
        want = kernels.bias_act(y, BIAS, act, implementation="xla")
        for impl in ("triton", "xla"):
            got = kernels.depthwise_conv(X, W, strides=2, bias=BIAS, act=act, implementation=impl)
            assert_agree(got, want)


def test_unsupported_calls_say_why():
    choices = kernels.explain(kernels.bias_act, X, BIAS, "gelu_exact")
    assert [choice.platform for choice in choices] == ["cpu", "any"]
    assert "triton: Triton has no gelu_exact" in choices[1].reason
    wide = jax.ShapeDtypeStruct((1, 9, 99, 4), jnp.float32)
    taps = jax.ShapeDtypeStruct((3, 65, 1, 4), jnp.float32)
    with pytest.raises(NotImplementedError, match="at most 64 columns, got 65"):
        jax.eval_shape(
            lambda x, w: kernels.depthwise_conv(x, w, implementation="triton"), wide, taps
        )
    large = jax.ShapeDtypeStruct((2**15, 256, 256, 1), jnp.float32)
    with pytest.raises(NotImplementedError, match="takes at most 2130706432 elements"):
        jax.eval_shape(lambda x: kernels.bias_act(x, jnp.ones(1), implementation="triton"), large)
    with jax.enable_x64(True), pytest.raises(NotImplementedError, match="got float64"):
        kernels.depthwise_conv(
            jnp.ones((1, 3, 3, 1)), jnp.ones((1, 1, 1, 1)), implementation="triton"
        )


def test_bias_act_defaults_to_xla():
    """XLA fuses it with its neighbours, where a kernel would be a pass of its own."""
    choices = kernels.explain(jax.grad(lambda x: kernels.bias_act(x, BIAS).sum()), X)
    chosen = {(c.pass_name, c.platform): c.implementation for c in choices}
    assert chosen == {
        ("forward_saving_y", "cpu"): "cpu",
        ("forward_saving_y", "any"): "xla",
        ("backward", "cpu"): "cpu",
        ("backward", "any"): "xla",
    }


def test_depthwise_conv_checks_bias_and_act():
    with pytest.raises(ValueError, match=r"bias must be .* of shape \(4,\) .* got float32\[3\]"):
        kernels.depthwise_conv(X, W, bias=jnp.ones(3))
    with pytest.raises(ValueError, match="act='relu' takes a bias, got none"):
        kernels.depthwise_conv(X, W, act="relu")
    with pytest.raises(ValueError, match="act must be one of"):
        kernels.depthwise_conv(X, W, bias=BIAS, act="rely")


def test_pallas_is_not_imported_on_a_cpu(root):
    """Since no kernel is traced there."""
    code = (
        "import sys, jax, jax.numpy as jnp, zoo_kernels as kernels\n"
        "x, w = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 1, 4))\n"
        "jax.jit(jax.grad(lambda w: kernels.depthwise_conv(x, w).sum()))(w)\n"
        "assert 'jax.experimental.pallas' not in sys.modules"
    )
    environment = {"JAX_PLATFORMS": "cpu", "PATH": ""}
    subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, check=True)


@pytest.mark.filterwarnings("ignore:jax has deprecated the backend")
@pytest.mark.parametrize("name", OPERATORS)
def test_triton_is_lowered_for_a_gpu(name):
    op, arrays = OPERATORS[name]
    text = lower_for_gpu(lambda *a: gradients(op, "triton", *a), *arrays)
    assert "__gpu$xla.gpu.triton" in text
    assert "stablehlo.convolution" not in text


@pytest.mark.filterwarnings("ignore:jax has deprecated the backend")
def test_triton_is_the_default_on_a_gpu():
    """Where `test_gpu_choice` does not find XLA faster."""
    x, w = jnp.ones((2, 14, 14, 64)), jnp.ones((3, 3, 1, 64))

    def op(_, x, w, scale):
        y = kernels.depthwise_conv(x, w)
        return kernels.batch_norm(y, scale, scale, act="relu")[0]

    text = lower_for_gpu(lambda *a: gradients(op, None, *a), x, w, jnp.ones(64))
    assert "__gpu$xla.gpu.triton" in text
    assert "stablehlo.convolution" not in text


@pytest.mark.skipif(jax.__version_info__ < (0, 11), reason="jax deprecated it in 0.11")
def test_deprecation_warning_comes_once():
    jax.clear_caches()
    launch._warn_deprecated.cache_clear()
    op, arrays = OPERATORS["batch_norm"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lower_for_gpu(lambda *a: gradients(op, None, *a), *arrays)
    assert [str(w.message) for w in caught] == [launch.DEPRECATED]
