"""The layers that the families share."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo_kernels as kernels
from zoo.models.layers import (
    BatchNorm,
    Conv,
    ConvNorm,
    Dense,
    LayerOptions,
    MaxPool,
    adaptive_average_pool,
)


@pytest.mark.parametrize(("channels", "groups"), [(64, 1), (64, 4), (512, 512)])
def test_kernels_are_initialized_with_the_deviation_of_he(channels, groups):
    """√(2 / fan-out), where an input feeds the k·k·(outputs / groups) outputs of its group."""
    conv = Conv(channels, 3, groups=groups)
    kernel = conv.init(jax.random.key(0), jnp.zeros((1, 4, 4, channels)))["params"]["kernel"]
    want = (2 / (9 * channels / groups)) ** 0.5
    assert float(kernel.std()) == pytest.approx(want, rel=0.05)


@pytest.mark.parametrize(("groups", "op"), [(1, "conv"), (4, "conv"), (8, "depthwise_conv")])
def test_as_many_groups_as_channels_run_the_depthwise_operator(groups, op):
    x, conv = jnp.zeros((1, 4, 4, 8)), Conv(8, 3, groups=groups)
    kernel = jnp.zeros((3, 3, 8 // groups, 8))
    choices = kernels.explain(lambda x: conv.apply({"params": {"kernel": kernel}}, x), x)
    assert {choice.op for choice in choices} == {op}


def test_batch_norm_in_inference_by_hand():
    """(7 − 3) / √(3 + 1) · 5 − 4 = 6."""
    variables = {
        "params": {"scale": jnp.array([5.0]), "bias": jnp.array([-4.0])},
        "batch_stats": {"mean": jnp.array([3.0]), "var": jnp.array([3.0])},
    }
    y = BatchNorm("relu", LayerOptions(norm_eps=1.0)).apply(variables, jnp.array([[7.0], [0.0]]))
    assert y.ravel().tolist() == [6.0, 0.0]


def test_running_variance_is_unbiased():
    """1 and 3: mean 2, biased variance 1, which normalises, unbiased 2, half of it remembered."""
    norm, x = (
        BatchNorm(options=LayerOptions(norm_eps=0.0, norm_momentum=0.5)),
        jnp.array([[1.0], [3.0]]),
    )
    variables = norm.init(jax.random.key(0), x)
    y, new = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    assert y.ravel().tolist() == [-1.0, 1.0]
    assert new["batch_stats"] == {"mean": jnp.array([1.0]), "var": jnp.array([1.5])}


def test_error_names_a_parameter_of_the_wrong_shape():
    layer = ConvNorm(4, 3)
    variables = layer.init(jax.random.key(0), jnp.zeros((1, 4, 4, 2)))
    with pytest.raises(ValueError, match=r"conv/kernel has shape .*2, 4\).*needs .*5, 4\)"):
        layer.apply(variables, jnp.zeros((1, 4, 4, 5)))


def test_dense_layer_by_hand():
    variables = {"params": {"kernel": jnp.array([[1.0, 2.0], [3.0, -4.0]]), "bias": jnp.ones(2)}}
    y = Dense(2, act="relu").apply(variables, jnp.array([[1.0, 1.0]]))
    assert y.tolist() == [[5.0, 0.0]]


def max_pool_by_hand(x, size, strides, pad, dilation, ceil):
    """Windows over rows and columns one by one, as PyTorch's documentation defines them."""
    extent = (size - 1) * dilation + 1

    def starts(n):
        count = (n + 2 * pad - extent) / strides + 1
        count = int(np.ceil(count)) if ceil else int(np.floor(count))
        if ceil and (count - 1) * strides >= n + pad:
            count -= 1
        return [i * strides - pad for i in range(count)]

    def inside(start, n):
        return [i for i in range(start, start + extent, dilation) if 0 <= i < n]

    h, w = x.shape[1:3]
    rows = [
        [x[:, inside(i, h)][:, :, inside(j, w)].max((1, 2)) for j in starts(w)] for i in starts(h)
    ]
    return np.stack([np.stack(row, 1) for row in rows], 1)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize(
    ("size", "strides", "padding", "dilation"),
    [(3, 2, 0, 1), (3, 2, "symmetric", 1), (2, 2, 0, 1), (3, 1, "symmetric", 2), (3, 2, 1, 2)],
)
def test_max_pool_agrees_with_pytorchs_definition(size, strides, padding, dilation, ceil):
    pad = (size - 1) * dilation // 2 if padding == "symmetric" else padding
    for shape in ((2, 7, 8, 3), (1, 9, 6, 2)):
        x = np.float32(np.random.default_rng(0).normal(size=shape))
        got = MaxPool(size, strides, padding, dilation, ceil).apply({}, jnp.asarray(x))
        np.testing.assert_array_equal(got, max_pool_by_hand(x, size, strides, pad, dilation, ceil))


def test_max_pool_with_same_padding_is_xlas():
    x = jnp.float32(np.random.default_rng(0).normal(size=(1, 6, 7, 2)))
    want = nn.max_pool(x, (3, 3), (2, 2), "SAME")
    np.testing.assert_array_equal(MaxPool(3, 2, "SAME").apply({}, x), want)


@pytest.mark.parametrize("size", [1, 4, 7])
def test_adaptive_average_pool_averages_its_cells(size):
    x = np.float32(np.random.default_rng(0).normal(size=(2, 7, 10, 3)))
    got = adaptive_average_pool(jnp.asarray(x), size)
    for i, j in np.ndindex(size, size):
        rows = slice(i * 7 // size, -(-(i + 1) * 7 // size))
        columns = slice(j * 10 // size, -(-(j + 1) * 10 // size))
        np.testing.assert_allclose(
            got[:, i, j], x[:, rows, columns].mean((1, 2)), rtol=1e-5, atol=1e-6
        )


class Pooled(nn.Module):
    @nn.compact
    def __call__(self, x):
        return MaxPool(2, 2, name="pool")(x)


def test_max_pool_is_a_module_without_parameters_that_interceptors_see():
    x, paths = jnp.zeros((1, 4, 4, 2)), []

    def note(call, args, kwargs, context):
        paths.append("/".join(context.module.path))
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        assert Pooled().init(jax.random.key(0), x) == {}
    assert paths == ["", "pool"]


def test_padding_of_a_convolution_overrides_that_of_the_options():
    x = jnp.zeros((1, 9, 9, 2))
    for padding, options, size in (
        (None, LayerOptions(), 9),
        (None, LayerOptions(padding="VALID"), 7),
        ("VALID", LayerOptions(), 7),
        (2, LayerOptions(padding="SAME"), 11),
    ):
        layer = Conv(4, 3, padding=padding, options=options)
        y = jax.eval_shape(lambda x, layer=layer: layer.init_with_output(jax.random.key(0), x), x)
        assert y[0].shape == (1, size, size, 4)


def test_a_convolution_without_a_norm_is_what_a_fused_one_is():
    x = jnp.zeros((1, 4, 4, 2))
    shapes = [
        jax.tree.map(jnp.shape, layer.init(jax.random.key(0), x))
        for layer in (ConvNorm(3, norm=False), ConvNorm(3, options=LayerOptions(fused=True)))
    ]
    assert shapes[0] == shapes[1]
    assert shapes[0] == {"params": {"conv": {"kernel": (1, 1, 2, 3), "bias": (3,)}}}


RECOMPUTABLE = kernels.RecomputableArray(jnp.ones((2, 4, 4, 3)), jnp.tanh, ())


@pytest.mark.parametrize("layer", [BatchNorm(), Dense(2), MaxPool(2, 2)])
def test_only_convolutions_take_recomputable_arrays(layer):
    name = type(layer).__name__
    words = rf"{name}: {name} '' got a RecomputableArray of shape \(2, 4, 4, 3\)"
    with pytest.raises(TypeError, match=words):
        layer.init(jax.random.key(0), RECOMPUTABLE)


def test_what_adds_a_residual_cannot_be_recomputed():
    x = jnp.ones((2, 4, 4, 3))
    layer = ConvNorm(3)
    variables = layer.init(jax.random.key(0), x)
    with pytest.raises(ValueError, match=r"norm 'norm' adds a residual of shape \(2, 4, 4, 3\)"):
        layer.apply(variables, x, True, x, recompute=True, mutable=["batch_stats"])
