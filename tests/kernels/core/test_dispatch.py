"""The choice of an implementation, and `explain`."""

import ast

import jax
import jax.numpy as jnp
import pytest

import zoo_kernels as kernels
from zoo_kernels.core import dispatch
from zoo_kernels.core.dispatch import Implementation, register, restrict_request, run_pass
from zoo_kernels.implementations import IMPLEMENTATIONS

X, W = jnp.ones((1, 6, 6, 4)), jnp.ones((3, 3, 1, 4))


@pytest.fixture
def toy(monkeypatch):
    """An operator "toy" with a general implementation and one for CPUs that only takes pairs."""
    monkeypatch.setattr(dispatch, "_registry", {})
    general = Implementation("general", {"forward": lambda spec, x: x + 1})
    special = Implementation(
        "special",
        {"forward": lambda spec, x: x + 2},
        platforms=("cpu",),
        unsupported=lambda spec, x: None if x.shape == (2,) else "takes pairs only",
    )
    register("toy", general, special)


@pytest.mark.usefixtures("toy")
class TestChoice:
    pair, triple = jnp.zeros(2), jnp.zeros(3)

    def test_an_implementation_for_the_platform_is_preferred(self):
        assert run_pass("toy", "forward", None, None, self.pair).tolist() == [2, 2]
        assert jax.jit(lambda x: run_pass("toy", "forward", None, None, x))(self.pair)[0] == 2

    def test_the_choice_follows_the_platform_lowered_for(self):
        def f(x):
            return run_pass("toy", "forward", None, None, x)

        def text(platform):
            return jax.jit(f).trace(self.pair).lower(lowering_platforms=(platform,)).as_text()

        assert "2.000000e+00" in text("cpu")
        assert "2.000000e+00" not in text("cuda")

    def test_an_implementation_that_does_not_support_the_call_is_skipped(self):
        assert run_pass("toy", "forward", None, None, self.triple).tolist() == [1, 1, 1]
        assert run_pass("toy", "forward", ["special", "general"], None, self.triple)[0] == 1

    def test_a_name_is_strict(self):
        assert run_pass("toy", "forward", "general", None, self.pair)[0] == 1
        with pytest.raises(NotImplementedError, match="special: takes pairs only"):
            run_pass("toy", "forward", "special", None, self.triple)

    def test_a_strict_name_is_refused_when_lowered_for_another_platform(self):
        traced = jax.jit(jax.vmap(lambda x: run_pass("toy", "forward", "special", None, x))).trace(
            jnp.zeros((3, 2))
        )
        assert "2.000000e+00" in traced.lower(lowering_platforms=("cpu",)).as_text()
        message = "toy: implementation 'special' runs on cpu only, not on cuda"
        with pytest.raises(NotImplementedError, match=message):
            traced.lower(lowering_platforms=("cuda",))

    def test_a_strict_name_is_refused_on_a_device_of_another_platform(self):
        passes = {"forward": lambda spec, x: x}
        register("toy", Implementation("elsewhere", passes, platforms=("cuda",)))
        with pytest.raises(NotImplementedError, match="'elsewhere' runs on cuda only, not on cpu"):
            run_pass("toy", "forward", "elsewhere", None, self.pair)

    def test_a_sequence_is_tried_for_each_platform(self):
        def f(x):
            return run_pass("toy", "forward", ["special", "general"], None, x)

        traced = jax.jit(f).trace(self.pair)
        assert "2.000000e+00" in traced.lower(lowering_platforms=("cpu",)).as_text()
        assert "2.000000e+00" not in traced.lower(lowering_platforms=("cuda",)).as_text()

    def test_an_implementation_that_defers_runs_only_by_name(self):
        def defers(pass_name, spec, x):
            return "is slower" if (pass_name, spec) == ("forward", None) else None

        passes = {"forward": lambda spec, x: x + 3}
        register("toy", Implementation("slow", passes, defers=defers))
        assert run_pass("toy", "forward", None, None, self.triple)[0] == 1
        assert run_pass("toy", "forward", "slow", None, self.triple)[0] == 3
        assert run_pass("toy", "forward", None, "other", self.triple)[0] == 3
        choices = kernels.explain(lambda x: run_pass("toy", "forward", None, None, x), self.pair)
        assert all("slow: is slower" in choice.reason for choice in choices)

    def test_the_error_for_an_unknown_name_lists_the_known(self):
        with pytest.raises(ValueError, match="'tritn'; known: general, special"):
            run_pass("toy", "forward", "tritn", None, self.pair)

    def test_an_empty_sequence_is_an_error(self):
        with pytest.raises(NotImplementedError, match="none was named"):
            run_pass("toy", "forward", [], None, self.pair)

    def test_registering_a_name_twice_is_an_error(self):
        with pytest.raises(ValueError, match="'general' already"):
            register("toy", Implementation("general", {}))

    def test_explain_gives_platform_and_reason(self):
        def f(x):
            return run_pass("toy", "forward", None, None, x)

        chosen = {c.platform: c.implementation for c in kernels.explain(f, self.pair)}
        assert chosen == {"cpu": "special", "any": "general"}
        (choice,) = kernels.explain(f, self.triple)
        assert choice.implementation == "general"
        assert "takes pairs only" in choice.reason

    def test_explain_gives_reasons_only_where_they_apply(self):
        defers = {"defers": lambda pass_name, spec, x: "is slower"}
        register("toy", Implementation("other", {}, platforms=("cpu",), **defers))
        cpu, general = kernels.explain(
            lambda x: run_pass("toy", "forward", None, None, x), self.pair
        )
        assert (cpu.implementation, general.implementation) == ("special", "general")
        assert "other: is slower" in cpu.reason
        assert "other" not in general.reason

    def test_a_request_is_restricted_to_what_an_operator_has(self):
        assert restrict_request("toy", None) is None
        assert restrict_request("toy", "elsewhere") is None
        assert restrict_request("toy", "special") == ("special",)
        assert restrict_request("toy", ["elsewhere", "special", "general"]) == (
            "special",
            "general",
        )

    def test_a_pass_that_two_implementations_share_is_traced_once(self):
        _, general = dispatch._registry["toy"]["special"], dispatch._registry["toy"]["general"]
        register("toy", Implementation("same", general.passes, platforms=("cpu",)))
        jaxpr = jax.make_jaxpr(lambda x: run_pass("toy", "forward", None, None, x))(self.pair)
        assert "platform_index" not in str(jaxpr)


def test_explain_computes_nothing_and_takes_shapes():
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (X, W)]
    choices = kernels.explain(kernels.depthwise_conv, *shapes, strides=(2, 2), padding="SAME")
    gpu, cpu, other = choices
    assert gpu[:4] == ("depthwise_conv", "forward", "cuda", "triton")
    assert cpu[:4] == ("depthwise_conv", "forward", "cpu", "cpu")
    assert other[:4] == ("depthwise_conv", "forward", "any", "xla")
    assert "onednn: needs the compiler option" in cpu.reason
    assert "onednn" not in other.reason


def test_explain_sees_into_compiled_functions():
    f = jax.jit(lambda x, w: kernels.depthwise_conv(x, w))
    f(X, W)
    assert len(kernels.explain(f, X, W)) == len(kernels.explain(f, X, W)) == 3


def test_explain_sees_the_gradients():
    def loss(x, w):
        return kernels.depthwise_conv(x, w).sum()

    choices = kernels.explain(jax.grad(loss, (0, 1)), X, W)
    passes = [choice.pass_name for choice in choices if choice.platform == "any"]
    assert passes == ["forward", "input_grad", "weight_grad"]


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
    call("cpu")
    call(["cpu", "xla"])
    call(["lax", "xla"])
    with pytest.raises(ValueError, match=r"unknown implementation 'magic'; known: .*xla"):
        call("magic")
    with pytest.raises(ValueError, match=r"implementation must be None.*got 3"):
        call(3)


def test_explain_gives_the_algorithm_of_each_pass():
    def loss(x, w):
        return kernels.conv(x, w).sum()

    x = jnp.ones((1, 14, 14, 4))
    choices = kernels.explain(jax.grad(loss, (0, 1)), x, jnp.ones((3, 3, 4, 2)))
    assert [(choice.platform, choice.reason.split("; ")[-1]) for choice in choices] == [
        ("cpu", "direct"),
        ("any", "direct"),
        ("cpu", "direct"),
        ("any", "direct"),
        ("cpu", "gemm"),
        ("any", "direct"),
    ]
    for choice in kernels.explain(kernels.conv, x, jnp.ones((3, 3, 4, 2)), algo="fft"):
        assert choice.reason.endswith("fft, as requested")


def test_depthwise_is_shifted_products_on_a_cpu_and_a_convolution_elsewhere():
    def loss(x, w):
        return kernels.depthwise_conv(x, w, implementation=["cpu", "xla"]).sum()

    traced = jax.jit(jax.grad(loss, (0, 1))).trace(X, W)
    assert "stablehlo.convolution" not in traced.lower(lowering_platforms=("cpu",)).as_text()
    assert "stablehlo.convolution" in traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize(("algo", "product"), [("auto", True), ("direct", False)])
def test_a_pointwise_weight_gradient_is_a_matrix_product(algo, product):
    grad = jax.jit(jax.grad(lambda w: kernels.conv(X, w, algo=algo).sum()))
    assert ("dot_general" in grad.lower(jnp.ones((1, 1, 4, 2))).as_text()) == product


@pytest.mark.parametrize("implementation", ["cpu", "xla", ("cpu", "xla"), ["onednn", "cpu"]])
def test_bias_and_activation_follow_the_request_under_differentiation(implementation):
    def loss(x, w, bias, **options):
        return (kernels.depthwise_conv(x, w, bias=bias, act="silu", **options) ** 2).sum()

    operands = (X, W, jnp.arange(4.0))
    got = jax.grad(lambda *a: loss(*a, implementation=implementation), (0, 1, 2))(*operands)
    want = jax.grad(loss, (0, 1, 2))(*operands)
    for a, b in zip(got, want, strict=True):
        assert jnp.allclose(a, b, rtol=1e-5)


def test_no_operator_names_an_implementation(root):
    """Which implementations there are is known to the registry alone."""
    names = {i.name for implementations in IMPLEMENTATIONS.values() for i in implementations}
    assert names == {"lax", "xla", "cpu", "onednn", "cudnn", "native"}
    files = sorted((root / "kernels" / "zoo_kernels").glob("*/__init__.py"))
    files = [file for file in files if file.parent.name != "native"]
    assert len(files) == 7  # six operators and core
    for file in files:
        constants = {
            node.value
            for node in ast.walk(ast.parse(file.read_text()))
            if type(node) is ast.Constant
        }
        assert not constants & {*names, "triton"}, file
