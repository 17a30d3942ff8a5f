"""The choice of an implementation, and the account of it."""

import jax
import jax.numpy as jnp
import pytest

import zoo_kernels as kernels
from zoo_kernels.core import dispatch
from zoo_kernels.core.dispatch import Implementation, register, run

X, W = jnp.ones((1, 6, 6, 4)), jnp.ones((3, 3, 1, 4))


@pytest.fixture
def toy(monkeypatch):
    """An operator "toy" with a general implementation and one for CPUs that only takes pairs."""
    monkeypatch.setattr(dispatch, "_registry", {})
    register({"toy": Implementation("general", {"forward": lambda static, x: x + 1})})
    register(
        {
            "toy": Implementation(
                "special",
                {"forward": lambda static, x: x + 2},
                platforms=("cpu",),
                refuses=lambda static, x: None if x.shape == (2,) else "takes pairs only",
            )
        }
    )


@pytest.mark.usefixtures("toy")
class TestChoice:
    pair, triple = jnp.zeros(2), jnp.zeros(3)

    def test_the_platforms_own_is_preferred(self):
        assert run("toy", "forward", None, None, self.pair).tolist() == [2, 2]
        assert jax.jit(lambda x: run("toy", "forward", None, None, x))(self.pair)[0] == 2

    def test_the_platform_is_the_one_lowered_for(self):
        def f(x):
            return run("toy", "forward", None, None, x)

        def text(platform):
            return jax.jit(f).trace(self.pair).lower(lowering_platforms=(platform,)).as_text()

        assert "2.000000e+00" in text("cpu")
        assert "2.000000e+00" not in text("cuda")

    def test_what_cannot_is_passed_over(self):
        assert run("toy", "forward", None, None, self.triple).tolist() == [1, 1, 1]
        assert run("toy", "forward", ["special", "general"], None, self.triple)[0] == 1

    def test_a_name_is_strict(self):
        assert run("toy", "forward", "general", None, self.pair)[0] == 1
        with pytest.raises(NotImplementedError, match="special: takes pairs only"):
            run("toy", "forward", "special", None, self.triple)

    def test_a_strict_name_on_a_platform_that_lacks_it(self):
        traced = jax.jit(jax.vmap(lambda x: run("toy", "forward", "special", None, x))).trace(
            jnp.zeros((3, 2))
        )
        assert "2.000000e+00" in traced.lower(lowering_platforms=("cpu",)).as_text()
        message = "toy: implementation 'special' runs on cpu only, not on cuda"
        with pytest.raises(NotImplementedError, match=message):
            traced.lower(lowering_platforms=("cuda",))

    def test_a_strict_name_that_the_devices_platform_lacks(self):
        register(
            {
                "toy": Implementation(
                    "elsewhere", {"forward": lambda static, x: x}, platforms=("cuda",)
                )
            }
        )
        with pytest.raises(NotImplementedError, match="'elsewhere' runs on cuda only, not on cpu"):
            run("toy", "forward", "elsewhere", None, self.pair)

    def test_a_sequence_is_tried_for_each_platform(self):
        def f(x):
            return run("toy", "forward", ["special", "general"], None, x)

        traced = jax.jit(f).trace(self.pair)
        assert "2.000000e+00" in traced.lower(lowering_platforms=("cpu",)).as_text()
        assert "2.000000e+00" not in traced.lower(lowering_platforms=("cuda",)).as_text()

    def test_one_that_yields_runs_where_it_is_named(self):
        def yields(step, static, x):
            return "is slower" if (step, static) == ("forward", None) else None

        passes = {"forward": lambda static, x: x + 3}
        register({"toy": Implementation("slow", passes, yields=yields)})
        assert run("toy", "forward", None, None, self.triple)[0] == 1
        assert run("toy", "forward", "slow", None, self.triple)[0] == 3
        assert run("toy", "forward", None, "other", self.triple)[0] == 3
        told = kernels.explain(lambda x: run("toy", "forward", None, None, x), self.pair)
        assert all("slow: is slower" in choice.reason for choice in told)

    def test_an_unknown_name_lists_the_known(self):
        with pytest.raises(ValueError, match="'tritn'; known: general, special"):
            run("toy", "forward", "tritn", None, self.pair)

    def test_no_name_at_all(self):
        with pytest.raises(NotImplementedError, match="none was named"):
            run("toy", "forward", [], None, self.pair)

    def test_a_second_of_the_same_name_is_refused(self):
        with pytest.raises(ValueError, match="'general' already"):
            register({"toy": Implementation("general", {})})

    def test_explain_tells_platform_and_reason(self):
        def f(x):
            return run("toy", "forward", None, None, x)

        told = {c.platform: c.implementation for c in kernels.explain(f, self.pair)}
        assert told == {"cpu": "special", "any": "general"}
        (choice,) = kernels.explain(f, self.triple)
        assert choice.implementation == "general"
        assert "takes pairs only" in choice.reason


def test_explain_computes_nothing_and_takes_shapes():
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (X, W)]
    gpu, other = kernels.explain(kernels.depthwise_conv, *shapes, strides=(2, 2), padding="SAME")
    assert gpu[:4] == ("depthwise_conv", "forward", "cuda", "triton")
    assert other[:4] == ("depthwise_conv", "forward", "any", "xla")
    assert "onednn: needs the compiler option" in other.reason


def test_explain_sees_into_what_was_compiled_before():
    f = jax.jit(lambda x, w: kernels.depthwise_conv(x, w))
    f(X, W)
    assert len(kernels.explain(f, X, W)) == len(kernels.explain(f, X, W)) == 2


def test_explain_sees_the_gradients():
    def loss(x, w):
        return kernels.depthwise_conv(x, w).sum()

    told = kernels.explain(jax.grad(loss, (0, 1)), X, W)
    steps = [choice.pass_name for choice in told if choice.platform == "any"]
    assert steps == ["forward", "input_grad", "weight_grad"]


@pytest.mark.parametrize(
    "call",
    [
        lambda i: kernels.conv(X, jnp.ones((1, 1, 4, 2)), implementation=i),
        lambda i: kernels.depthwise_conv(X, W, implementation=i),
        lambda i: kernels.bias_act(X, jnp.ones(4), implementation=i),
        lambda i: kernels.batch_norm(X, jnp.ones(4), jnp.ones(4), implementation=i),
    ],
)
def test_every_operator_takes_an_implementation(call):
    call(None)
    call("xla")
    call(["xla"])
    with pytest.raises(ValueError, match=r"unknown implementation 'cudnn'; known: .*xla"):
        call("cudnn")
    with pytest.raises(ValueError, match=r"implementation must be None.*got 3"):
        call(3)


def test_explain_tells_the_algorithm_of_each_pass():
    def loss(x, w):
        return kernels.conv(x, w).sum()

    x = jnp.ones((1, 14, 14, 4))
    told = kernels.explain(jax.grad(loss, (0, 1)), x, jnp.ones((3, 3, 4, 2)))
    assert [choice.reason.split("; ")[-1] for choice in told] == [
        "direct on a CPU, direct elsewhere",
        "direct on a CPU, direct elsewhere",
        "gemm on a CPU, direct elsewhere",
    ]
    (choice,) = kernels.explain(kernels.conv, x, jnp.ones((3, 3, 4, 2)), algo="fft")
    assert choice.reason.endswith("fft, as requested")


def test_depthwise_is_shifted_products_on_a_cpu_and_a_convolution_elsewhere():
    def loss(x, w):
        return kernels.depthwise_conv(x, w, implementation="xla").sum()

    traced = jax.jit(jax.grad(loss, (0, 1))).trace(X, W)
    assert "stablehlo.convolution" not in traced.lower(lowering_platforms=("cpu",)).as_text()
    assert "stablehlo.convolution" in traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize(("algo", "product"), [("auto", True), ("direct", False)])
def test_a_pointwise_weight_gradient_is_a_matrix_product(algo, product):
    grad = jax.jit(jax.grad(lambda w: kernels.conv(X, w, algo=algo).sum()))
    assert ("dot_general" in grad.lower(jnp.ones((1, 1, 4, 2))).as_text()) == product
