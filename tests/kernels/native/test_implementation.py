"""The native layers as implementations of single operators, asked for by name."""

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
from tests.kernels.max_pool.test_max_pool import calls
from tests.kernels.native.whole_numbers import largest
from zoo_kernels import native
from zoo_kernels.core.activations import ACTIVATIONS
from zoo_kernels.core.window import resolve_pool
from zoo_kernels.native import build

X, W = jnp.ones((2, 9, 8, 4)), jnp.ones((3, 3, 1, 4))
DENSE = jnp.ones((3, 3, 4, 5))


@pytest.mark.usefixtures("native_library")
class TestSampled:
    @pytest.mark.sampled
    @sampled
    @given(case=convolutions(depthwise=True, multipliers=(1,), dtypes=("float32",)))
    def test_depthwise(self, case):
        check_sampled("depthwise_conv", case, implementation="native")

    @pytest.mark.sampled
    @sampled
    @given(case=convolutions(depthwise=False, dtypes=("float32",)))
    def test_conv(self, case):
        check_sampled("conv", case, implementation=["native", "cpu"])

    @pytest.mark.sampled
    @sampled
    @given(case=convolutions(depthwise=False, dtypes=("float32",)))
    def test_forward(self, case):
        """Only the values, for one group, which `test_conv` draws seldom."""
        case = {**case, "groups": 1, "algo": "auto"}
        case["x"] = (*case["x"][:3], case["w"][2])
        check_sampled("conv", case, implementation="native")

    @pytest.mark.sampled
    @sampled
    @given(case=calls())
    def test_max_pool(self, case):
        shape, kernel, geometry, _ = case
        x = draw(shape, "float32")
        got = kernels.max_pool(x, kernel, **geometry, implementation="native")
        order = (geometry["strides"], geometry["padding"], geometry["dilation"])
        x, window = resolve_pool("max_pool", x, kernel, *order)
        np.testing.assert_array_equal(got, largest(np.asarray(x), window))


@pytest.mark.usefixtures("native_library")
class TestOperators:
    @pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
    def test_all_passes_of_both_convolutions(self, strides):
        """The gradients are those of the implementation for CPUs."""
        geometry = {"strides": strides, "dilation": (1, 2), "padding": ((1, 2), (0, 1))}
        x = draw((2, 11, 10, 5), "float32")
        op = functools.partial(kernels.depthwise_conv, implementation="native")
        check(op, x, draw((3, 3, 1, 5), "float32"), geometry, groups=5)
        op = functools.partial(kernels.conv, implementation="native")
        check(op, x, draw((3, 2, 5, 7), "float32"), geometry, groups=1)

    @pytest.mark.parametrize("act", native.ACTS)
    def test_depthwise_with_a_bias(self, act):
        x, w = draw((2, 7, 6, 20), "float32"), draw((3, 3, 1, 20), "float32")
        bias = draw((20,), "float32")
        op = functools.partial(kernels.depthwise_conv, x, w, bias=bias, act=act, strides=2)
        got, want = op(implementation="native"), op(implementation="cpu")
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)

    def test_gradients_with_a_bias(self):
        x, w = draw((2, 7, 6, 5), "float32"), draw((3, 3, 1, 5), "float32")
        bias = draw((5,), "float32")

        def gradient(implementation):
            op = functools.partial(
                kernels.depthwise_conv, act="relu", implementation=implementation
            )
            return jax.jit(jax.grad(lambda *a: (op(*a[:2], bias=a[2]) ** 2).sum(), (0, 1, 2)))(
                x, w, bias
            )

        for got, want in zip(gradient(["native", "cpu"]), gradient("cpu"), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)

    def test_max_pool_and_its_gradient(self):
        x = draw((2, 9, 8, 5), "float32")

        def passes(implementation):
            op = functools.partial(kernels.max_pool, size=3, strides=2, padding=1)
            y, vjp = jax.vjp(lambda x: op(x, implementation=implementation), x)
            return op(x, implementation=implementation), y, vjp(y)[0]

        for got, want in zip(passes("native"), passes("cpu"), strict=True):
            np.testing.assert_array_equal(got, want)

    def test_vmap_and_scan(self):
        x, w = draw((3, 2, 9, 8, 4), "float32"), draw((3, 3, 1, 4), "float32")
        op = functools.partial(kernels.depthwise_conv, w=w, implementation="native")
        want = jnp.stack([op(each) for each in x])
        np.testing.assert_array_equal(jax.jit(jax.vmap(op))(x), want)
        scanned = jax.lax.scan(lambda _, x: (None, op(x)), None, x)[1]
        np.testing.assert_array_equal(scanned, want)

    @pytest.mark.parametrize(
        ("call", "reason"),
        [
            (lambda: kernels.conv(X, DENSE, algo="gemm", implementation="native"), "not gemm"),
            (lambda: kernels.conv(X, W, groups=4, implementation="native"), "takes one group"),
            (
                lambda: kernels.depthwise_conv(X, jnp.ones((3, 3, 1, 8)), implementation="native"),
                "takes no channel multiplier",
            ),
            (
                lambda: kernels.depthwise_conv(
                    X, W, bias=jnp.ones(4), act="silu", implementation="native"
                ),
                "has no activation silu",
            ),
            (
                lambda: kernels.depthwise_conv(
                    X.astype("bfloat16"), W.astype("bfloat16"), implementation="native"
                ),
                "computes in float32 only",
            ),
            (
                lambda: kernels.depthwise_conv(
                    X, W, bias=jnp.ones(4, "bfloat16"), implementation="native"
                ),
                "computes in float32 only",
            ),
            (
                lambda: kernels.max_pool(X.astype("float16"), 2, implementation="native"),
                "computes in float32 only",
            ),
        ],
    )
    def test_calls_that_it_cannot_do(self, call, reason):
        with pytest.raises(NotImplementedError, match=f"native: .*{reason}"):
            call()

    def test_it_does_not_compile_for_a_gpu(self):
        traced = jax.jit(lambda x: kernels.conv(x, DENSE, implementation="native")).trace(X)
        with pytest.raises(NotImplementedError, match="runs on cpu only, not on cuda"):
            traced.lower(lowering_platforms=("cuda",))


def test_it_is_never_the_default():
    """Not even where nothing else was asked for: one by one the layers pack their weights."""

    def f(x):
        y = kernels.depthwise_conv(kernels.conv(x, jnp.ones((1, 1, 4, 4))), W, bias=jnp.ones(4))
        return kernels.max_pool(y, 2)

    assert set(ACTIVATIONS) >= native.ACTS.keys()
    for jit in (jax.jit, kernels.jit):
        chosen = {choice.implementation for choice in kernels.explain(jit(f), X)}
        assert "native" not in chosen
        assert "zoo_" not in jit(f).lower(X).as_text()


def test_asked_for_where_it_cannot_be_had(monkeypatch):
    monkeypatch.setattr(build, "_load", lambda: "needs a C++ compiler")
    with pytest.raises(NotImplementedError, match=r"native: needs a C\+\+ compiler"):
        kernels.conv(X, DENSE, implementation="native")
    with pytest.raises(NotImplementedError, match=r"native: needs a C\+\+ compiler"):
        kernels.max_pool(X, 2, implementation="native")
    y = kernels.depthwise_conv(X, W, implementation=["native", "cpu"])
    assert y.shape == X.shape
