"""Compiler options, `kernels.jit`, and the operators that count on them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

import zoo_kernels as kernels
from tests.kernels.cases import convolutions, draw, sampled
from tests.kernels.conv.test_convolutions import check
from tests.kernels.conv.test_sampled_convolutions import check as check_sampled
from zoo_kernels.conv import onednn
from zoo_kernels.core import compiler, jax_compat

X, W = jnp.ones((2, 9, 8, 4)), jnp.ones((3, 3, 1, 4))
HAS_ONEDNN = compiler.has_onednn()


def implementations(op, *arrays):
    """The implementations that run on a CPU."""
    choices = kernels.explain(op, *arrays)
    return {choice.implementation for choice in choices if choice.platform == "cpu"}


def test_this_jaxlib_knows_the_options():
    options = kernels.compiler_options("cpu")
    assert jax.jit(lambda x: x + 1, compiler_options=options)(1.0) == 2.0
    assert (compiler.ONEDNN in options) == HAS_ONEDNN
    assert kernels.compiler_options("gpu") == {}


def test_jit_takes_arguments_of_jax_jit():
    f = kernels.jit(lambda x, power: x**power, static_argnames="power", donate_argnums=())
    assert f(3.0, power=2) == 9.0
    assert "multiply" in f.lower(jnp.ones(3), power=2).as_text()


def test_other_options_may_be_added():
    with pytest.raises(Exception, match="no_such_option"):
        kernels.jit(lambda x: x, compiler_options={"no_such_option": True})(1.0)


def test_inside_other_transformations_it_compiles_without_options():
    f = kernels.jit(lambda x: 3 * x**2)
    assert jax.jit(lambda x: f(x) + f(1.0))(2.0) == 15.0
    assert jax.grad(f)(2.0) == 12.0
    assert jax.vmap(f)(jnp.arange(3.0)).tolist() == [0.0, 3.0, 12.0]
    assert implementations(jax.grad(lambda x: kernels.jit(kernels.depthwise_conv)(x, W).sum()), X)


def test_operators_count_on_the_options_only_where_they_hold():
    f = kernels.jit(kernels.depthwise_conv)
    assert implementations(f, X, W) == {"onednn" if HAS_ONEDNN else "cpu"}
    assert implementations(kernels.depthwise_conv, X, W) == {"cpu"}
    # A trace that is cached for one is not used for the other.
    with_options = f.lower(X, W).as_text()
    without = jax.jit(kernels.depthwise_conv).lower(X, W).as_text()
    assert ("stablehlo.convolution" in with_options) == HAS_ONEDNN
    assert "stablehlo.convolution" not in without


def test_a_program_is_traced_for_its_platform_alone():
    traced = kernels.jit(kernels.depthwise_conv).trace(X, W)
    assert "platform_index" not in str(traced.jaxpr)
    assert "platform_index" in str(jax.jit(kernels.depthwise_conv).trace(X, W).jaxpr)
    with pytest.raises(NotImplementedError, match="runs on cpu only, not on tpu"):
        traced.lower(lowering_platforms=("tpu",))


def test_a_program_is_traced_for_all_platforms_where_there_are_several(monkeypatch):
    monkeypatch.setattr(jax_compat, "backend_platforms", lambda: {"cpu", "cuda"})
    traced = kernels.jit(lambda x: kernels.conv(x, jnp.ones((1, 1, 4, 2)))).trace(X)
    assert "platform_index" in str(traced.jaxpr)
    assert traced.lower(lowering_platforms=("tpu",)).as_text()


def test_results_may_be_of_any_kind():
    key, nothing, array, two = kernels.jit(lambda k: (k, None, X, 2))(jax.random.key(0))
    assert (key, nothing, two) == (jax.random.key(0), None, 2)
    assert array.tolist() == X.tolist()
    assert kernels.jit(lambda: None)() is None
    assert kernels.jit(jax.random.split)(key).shape == (2,)


def test_an_option_may_be_overridden():
    f = kernels.jit(kernels.depthwise_conv, compiler_options={compiler.ONEDNN: "false"})
    assert implementations(f, X, W) == {"cpu"}
    assert kernels.jit(lambda x: x, compiler_options=None)(1.0) == 1.0


def test_onednn_by_name_without_its_option_is_an_error():
    with pytest.raises(NotImplementedError, match="onednn: needs the compiler option"):
        kernels.depthwise_conv(X, W, implementation="onednn")


@pytest.mark.skipif(not HAS_ONEDNN, reason="this jaxlib has no oneDNN convolutions")
class TestOneDNN:
    @pytest.mark.sampled
    @sampled
    @given(case=convolutions(depthwise=True, multipliers=(1,), dtypes=("float32",)))
    def test_sampled(self, case):
        check_sampled("depthwise_conv", case, implementation="onednn", jit=kernels.jit)

    @pytest.mark.sampled
    @sampled
    @given(case=convolutions(depthwise=False, dtypes=("float32",)))
    def test_sampled_groups(self, case):
        check_sampled("conv", case, implementation=["onednn", "cpu"], jit=kernels.jit)

    @pytest.mark.parametrize(
        ("kernel", "strides", "dilation", "padding"),
        [
            ((3, 3), (1, 1), (1, 1), ((1, 1), (1, 1))),
            ((3, 2), (2, 3), (1, 1), ((0, 2), (1, 0))),
            ((5, 1), (3, 1), (2, 3), ((3, 3), (0, 0))),
            ((2, 4), (3, 2), (3, 2), ((3, 1), (2, 3))),
        ],
    )
    def test_all_passes(self, kernel, strides, dilation, padding):
        geometry = {"strides": strides, "dilation": dilation, "padding": padding}
        x, w = draw((2, 11, 10, 5), "float32"), draw((*kernel, 1, 5), "float32")
        op = functools.partial(kernels.depthwise_conv, implementation="onednn")
        check(op, x, w, geometry, groups=5, jit=kernels.jit)

    @pytest.mark.parametrize(
        ("shape", "outputs", "groups"),
        [((3, 11, 10, 16), 24, 2), ((2, 9, 8, 12), 6, 3), ((1, 8, 9, 32), 32, 4)],
    )
    @pytest.mark.parametrize(
        ("kernel", "strides", "dilation", "padding"),
        [
            (3, (1, 1), (1, 1), ((1, 1), (1, 1))),
            (1, (2, 2), (1, 1), ((0, 0), (0, 0))),
            (3, (2, 3), (1, 2), ((0, 2), (3, 0))),
            (2, (3, 1), (2, 1), ((3, 3), (2, 2))),
        ],
    )
    def test_groups(self, shape, outputs, groups, kernel, strides, dilation, padding):
        geometry = {"strides": strides, "dilation": dilation, "padding": padding}
        x, w = (
            draw(shape, "float32"),
            draw((kernel, kernel, shape[3] // groups, outputs), "float32"),
        )
        op = functools.partial(kernels.conv, groups=groups, implementation="onednn")
        check(op, x, w, geometry, groups=groups, jit=kernels.jit)

    def test_all_passes_of_groups_are_run_by_onednn(self):
        x, w = jnp.ones((2, 14, 14, 32)), jnp.ones((3, 3, 8, 32))
        op = functools.partial(kernels.conv, groups=4, padding=1)
        passes = (
            op,
            jax.grad(lambda x, w: op(x, w).sum(), 0),
            jax.grad(lambda x, w: op(x, w).sum(), 1),
        )
        for f in passes:
            text = kernels.jit(f).lower(x, w).compile().as_text()
            assert "onednn" in text
            assert " convolution(" not in text

    def test_a_convolution_without_padding_takes_bias_and_activation(self):
        x, w, bias = jnp.ones((2, 32, 32, 3)), jnp.ones((3, 3, 3, 64)), jnp.ones(64)

        def f(x, w, bias):
            return kernels.bias_act(kernels.conv(x, w, padding="VALID"), bias, "relu")

        text = kernels.jit(f).lower(x, w, bias).compile().as_text()
        assert '"ops":["BIAS","RELU"]' in text

    @pytest.mark.parametrize(
        ("groups", "algo", "takes"),
        [
            (2, "auto", True),
            (2, "direct", True),
            (2, "gemm", False),
            (1, "auto", False),
            (8, "auto", False),
        ],
    )
    def test_which_groups_it_takes(self, groups, algo, takes):
        op = kernels.jit(functools.partial(kernels.conv, groups=groups, algo=algo))
        chosen = implementations(op, jnp.ones((1, 5, 5, 8)), jnp.ones((3, 3, 8 // groups, 8)))
        assert ("onednn" in chosen) == takes

    def test_passes_of_groups_that_onednn_defers(self, monkeypatch):
        def passes(channels):
            """The passes that oneDNN runs."""
            x, w = jnp.ones((1, 5, 5, channels)), jnp.ones((3, 3, channels // 2, channels))
            loss = kernels.jit(jax.grad(lambda x, w: kernels.conv(x, w, groups=2).sum(), (0, 1)))
            choices = kernels.explain(loss, x, w)
            return {choice.pass_name for choice in choices if choice.implementation == "onednn"}

        assert passes(16) == {"forward", "input_grad", "weight_grad"}
        assert passes(14) == {"forward", "input_grad"}
        monkeypatch.setattr(onednn.cpu, "count_devices", lambda: 2)
        assert passes(16) == set()

    def test_calls_that_onednn_does_not_support(self):
        for x, w in ((X, jnp.ones((3, 3, 1, 8))), (X.astype("bfloat16"), W.astype("bfloat16"))):
            assert implementations(kernels.jit(kernels.depthwise_conv), x, w) == {"cpu"}

    def test_the_input_gradient_is_run_by_onednn(self):
        """A flipped kernel must not become a property of the convolution."""
        f = kernels.jit(jax.grad(lambda x: kernels.depthwise_conv(x, W).sum()))
        text = f.lower(jnp.asarray(np.ones((2, 28, 28, 4), np.float32))).compile().as_text()
        assert "onednn" in text
        assert "rhs_reversal" not in text
