"""Triton's kernels: run by the interpreter, lowered for CUDA, and when they are chosen.

What they compute is tested on sampled calls (test_sampled_*), what they compile to in
test_gpu_code, and their sharding by eight_devices.
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
from zoo_kernels.core.pallas import launch

X, W, BIAS = draw((2, 4, 5, 4), "float32"), draw((2, 2, 1, 4), "float32"), draw((4,), "float32")
OPERATORS = {
    "depthwise": (
        lambda i, x, w: kernels.depthwise_conv(x, w, strides=2, implementation=i),
        (X, W),
    ),
    "depthwise, bias": (
        lambda i, x, w, b: kernels.depthwise_conv(x, w, bias=b, act="silu", implementation=i),
        (X, W, BIAS),
    ),
    "bias_act": (
        lambda i, x, b, r: kernels.bias_act(x, b, "gelu", residual=r, implementation=i),
        (X, BIAS, jnp.cos(X)),
    ),
    "batch_norm": (
        lambda i, x, s, b: kernels.batch_norm(x, s, b, act="elu", implementation=i)[0],
        (X, BIAS, BIAS),
    ),
}


def gradients(op, implementation, *arrays):
    def loss(*arrays):
        y = op(implementation, *arrays)
        return (jnp.sin(y) * y).sum()

    return jax.value_and_grad(loss, argnums=tuple(range(len(arrays))))(*arrays)


def agree(got, want, atol=3e-5):
    """To what float32's roundings come to behind each other, relative to the largest entry."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, atol=atol * np.abs(b).max())


@pytest.mark.triton
@pytest.mark.usefixtures("interpreted")
class TestInterpreted:
    @pytest.mark.parametrize("first", [True, False], ids=["x", "weights"])
    @pytest.mark.parametrize("name", OPERATORS)
    def test_mapped(self, name, first):
        """By the rule for vmap, of the forward pass and of the gradients."""
        op, arrays = OPERATORS[name]
        mapped = [(i == 0) == first for i in range(len(arrays))]
        many = [jnp.stack([a, 2 - a]) if m else a for a, m in zip(arrays, mapped, strict=True)]
        axes = [0 if m else None for m in mapped]
        got, want = (
            jax.jit(jax.vmap(lambda *a, i=i: gradients(op, i, *a), in_axes=axes))(*many)
            for i in ("triton", "xla")
        )
        agree(got, want)

    @pytest.mark.parametrize("name", OPERATORS)
    def test_gradients_of_gradients(self, name):
        op, arrays = OPERATORS[name]

        def slope(i, *arrays):
            return sum((g**2).sum() for g in gradients(op, i, *arrays)[1])

        got, want = (
            jax.jit(jax.grad(slope, argnums=(1, 2)), static_argnums=0)(i, *arrays)
            for i in ("triton", "xla")
        )
        agree(got, want)

    def test_many_programs_share_a_sum(self):
        """Enough rows for each program to take several steps, and for many programs."""
        x, w = draw((8, 40, 40, 20), "float32"), draw((3, 3, 1, 20), "float32")

        def f(x, w, i):
            one = jnp.ones(20, x.dtype)
            y = kernels.depthwise_conv(x, w, implementation=i)
            return (kernels.batch_norm(y, one, one, act="relu", implementation=i)[0] ** 3).sum()

        def taken(i, x, w):
            return jax.jit(jax.value_and_grad(functools.partial(f, i=i), (0, 1)))(x, w)

        with jax.enable_x64(True):
            exact = jax.device_get(taken("xla", np.float64(x), np.float64(w)))
        # 12 800 rows' terms cancel: seen are 5e-5 of the largest, 8e-6 by XLA.
        agree(taken("triton", x, w), exact, atol=1e-4)
        agree(taken("xla", x, w), exact)

    @pytest.mark.parametrize("act", ["relu", "hard_swish"])
    def test_fused_is_the_two_apart(self, act):
        def apart(x, w, b):
            y = kernels.depthwise_conv(x, w, strides=2, implementation="xla")
            return kernels.bias_act(y, b, act, implementation="xla")

        for i in ("triton", "xla"):
            got = kernels.depthwise_conv(X, W, strides=2, bias=BIAS, act=act, implementation=i)
            agree(got, apart(X, W, BIAS))


def test_what_is_refused_and_why():
    told = kernels.explain(kernels.bias_act, X, BIAS, "gelu_exact")
    assert [choice.platform for choice in told] == ["any"]
    assert "triton: Triton has no gelu_exact" in told[0].reason
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


def test_forward_bias_and_activation_stay_xlas():
    """It fuses them with their neighbours, where a kernel would be a pass of its own."""
    told = kernels.explain(jax.grad(lambda x: kernels.bias_act(x, BIAS).sum()), X)
    chosen = {(c.pass_name, c.platform): c.implementation for c in told}
    assert chosen == {
        ("forward_kept", "any"): "xla",
        ("backward", "cuda"): "triton",
        ("backward", "any"): "xla",
    }


def test_bad_biases():
    with pytest.raises(ValueError, match=r"bias must be .* of shape \(4,\) .* got float32\[3\]"):
        kernels.depthwise_conv(X, W, bias=jnp.ones(3))
    with pytest.raises(ValueError, match="act='relu' takes a bias, got none"):
        kernels.depthwise_conv(X, W, act="relu")
    with pytest.raises(ValueError, match="act must be one of"):
        kernels.depthwise_conv(X, W, bias=BIAS, act="rely")


def test_a_cpu_never_loads_pallas(root):
    """Nor traces a kernel, which is why it is loaded late."""
    code = (
        "import sys, jax, jax.numpy as jnp, zoo_kernels as kernels\n"
        "x, w = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 1, 4))\n"
        "jax.jit(jax.grad(lambda w: kernels.depthwise_conv(x, w).sum()))(w)\n"
        "assert 'jax.experimental.pallas' not in sys.modules"
    )
    environment = {"JAX_PLATFORMS": "cpu", "PATH": ""}
    subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, check=True)


def lowered(f, *arrays):
    """StableHLO for an H100 that is not there."""
    gpu = jax.sharding.AbstractDevice(device_kind="NVIDIA H100", num_cores=132, platform="gpu")
    mesh = jax.sharding.AbstractMesh((), (), abstract_device=gpu)
    with jax.sharding.use_abstract_mesh(mesh):
        return jax.jit(f).trace(*arrays).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.filterwarnings("ignore:jax has deprecated the backend")
@pytest.mark.parametrize("name", OPERATORS)
def test_the_default_on_a_gpu(name):
    op, arrays = OPERATORS[name]
    text = lowered(lambda *a: gradients(op, None, *a), *arrays)
    assert "__gpu$xla.gpu.triton" in text
    assert "stablehlo.convolution" not in text


@pytest.mark.skipif(jax.__version_info__ < (0, 11), reason="jax deprecated it in 0.11")
def test_the_deprecation_is_told_once():
    jax.clear_caches()
    launch._tell.cache_clear()
    op, arrays = OPERATORS["batch_norm"]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        lowered(lambda *a: gradients(op, None, *a), *arrays)
    assert [str(w.message) for w in told] == [launch.DEPRECATED]
