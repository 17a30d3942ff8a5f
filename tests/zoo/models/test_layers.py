"""What the families share, layer by layer."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
import zoo_kernels as kernels
from zoo.models.blocks import drop_path
from zoo.models.layers import (
    BatchNorm,
    Conv,
    ConvNorm,
    Dense,
    LayerOptions,
    MaxPool,
    adaptive_average_pool,
)


class Dropped(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, x, train):
        return drop_path(self, x, self.rate, train)


def test_drop_path_drops_whole_examples_and_keeps_the_mean():
    x = 1 + jnp.arange(4000.0).reshape(1000, 2, 2, 1)
    y = Dropped(0.25).apply({}, x, True, rngs={"dropout": jax.random.key(0)})
    factor = np.asarray(y / x).reshape(1000, 4)
    np.testing.assert_allclose(factor, np.broadcast_to(factor[:, :1], factor.shape), rtol=1e-6)
    kept = factor[:, 0] > 0
    np.testing.assert_allclose(factor[kept], 1 / 0.75, rtol=1e-6)
    # The number kept is binomial: 750 with a deviation of 13.7.
    assert abs(kept.sum() - 750) < 4 * 13.7


def test_drop_path_does_nothing_outside_training():
    x = jnp.ones((8, 1, 1, 1))
    assert (Dropped(0.9).apply({}, x, False) == x).all()


@pytest.mark.parametrize(("channels", "groups"), [(64, 1), (64, 4), (512, 512)])
def test_kernels_start_with_the_deviation_of_he(channels, groups):
    """√(2 / fan-out), where an input feeds the k·k·(outputs / groups) outputs of its group."""
    conv = Conv(channels, 3, groups=groups)
    kernel = conv.init(jax.random.key(0), jnp.zeros((1, 4, 4, channels)))["params"]["kernel"]
    want = (2 / (9 * channels / groups)) ** 0.5
    assert float(kernel.std()) == pytest.approx(want, rel=0.05)


@pytest.mark.parametrize(("groups", "op"), [(1, "conv"), (4, "conv"), (8, "depthwise_conv")])
def test_as_many_groups_as_channels_are_depthwise(groups, op):
    x, conv = jnp.zeros((1, 4, 4, 8)), Conv(8, 3, groups=groups)
    kernel = jnp.zeros((3, 3, 8 // groups, 8))
    told = kernels.explain(lambda x: conv.apply({"params": {"kernel": kernel}}, x), x)
    assert {choice.op for choice in told} == {op}


def test_inference_norm_by_hand():
    """(7 − 3) / √(3 + 1) · 5 − 4 = 6."""
    variables = {
        "params": {"scale": jnp.array([5.0]), "bias": jnp.array([-4.0])},
        "batch_stats": {"mean": jnp.array([3.0]), "var": jnp.array([3.0])},
    }
    y = BatchNorm("relu", LayerOptions(norm_eps=1.0)).apply(variables, jnp.array([[7.0], [0.0]]))
    assert y.ravel().tolist() == [6.0, 0.0]


def test_running_variance_is_the_unbiased_one():
    """1 and 3: mean 2, biased variance 1, which normalises, unbiased 2, half of it remembered."""
    norm, x = (
        BatchNorm(options=LayerOptions(norm_eps=0.0, norm_momentum=0.5)),
        jnp.array([[1.0], [3.0]]),
    )
    variables = norm.init(jax.random.key(0), x)
    y, new = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    assert y.ravel().tolist() == [-1.0, 1.0]
    assert new["batch_stats"] == {"mean": jnp.array([1.0]), "var": jnp.array([1.5])}


def test_a_parameter_of_another_shape_is_named():
    layer = ConvNorm(4, 3)
    variables = layer.init(jax.random.key(0), jnp.zeros((1, 4, 4, 2)))
    with pytest.raises(ValueError, match=r"conv/kernel has shape .*2, 4\).*needs .*5, 4\)"):
        layer.apply(variables, jnp.zeros((1, 4, 4, 5)))


def test_a_dense_layer_by_hand():
    variables = {"params": {"kernel": jnp.array([[1.0, 2.0], [3.0, -4.0]]), "bias": jnp.ones(2)}}
    y = Dense(2, act="relu").apply(variables, jnp.array([[1.0, 1.0]]))
    assert y.tolist() == [[5.0, 0.0]]


def largest_by_hand(x, size, strides, pad, dilation, ceil):
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
def test_pools_of_every_kind(size, strides, padding, dilation, ceil):
    pad = (size - 1) * dilation // 2 if padding == "symmetric" else padding
    for shape in ((2, 7, 8, 3), (1, 9, 6, 2)):
        x = np.float32(np.random.default_rng(0).normal(size=shape))
        got = MaxPool(size, strides, padding, dilation, ceil).apply({}, jnp.asarray(x))
        np.testing.assert_array_equal(got, largest_by_hand(x, size, strides, pad, dilation, ceil))


def test_same_padding_of_a_pool_is_xlas():
    x = jnp.float32(np.random.default_rng(0).normal(size=(1, 6, 7, 2)))
    want = nn.max_pool(x, (3, 3), (2, 2), "SAME")
    np.testing.assert_array_equal(MaxPool(3, 2, "SAME").apply({}, x), want)


@pytest.mark.parametrize("size", [1, 4, 7])
def test_adaptive_means_are_those_of_their_cells(size):
    x = np.float32(np.random.default_rng(0).normal(size=(2, 7, 10, 3)))
    got = adaptive_average_pool(jnp.asarray(x), size)
    for i, j in np.ndindex(size, size):
        rows = slice(i * 7 // size, -(-(i + 1) * 7 // size))
        columns = slice(j * 10 // size, -(-(j + 1) * 10 // size))
        np.testing.assert_allclose(
            got[:, i, j], x[:, rows, columns].mean((1, 2)), rtol=1e-5, atol=1e-6
        )


# Norms of which one convolution alone reads the result, by the papers' tables.
READ_ONCE = {
    "VGG16_BN": 13 - 5,  # not where a pool follows
    "ResNet18": 8,  # between a block's two convolutions
    "ResNet50": 16 * 2,  # before a bottleneck's second and third
    "DenseNet121": 58 * 2 + 3,  # two in a layer, and one in a transition
    "GoogLeNet": 9 * 2 + 1,  # before the 3x3 and "5x5" ones, and in the stem
    "MobileNetV1": 13,  # between depthwise and pointwise
    "MobileNetV2": 17 + 16,  # the first block does not expand
    "MobileNetV3_Large": 14 + 7,  # expansions; filters without squeeze-and-excitation
    "EfficientNetLite0": 16 + 15,
    "Xception": 1 + 3 + 8 * 2 + 1 + 1,  # the stem, the entry, middle and exit flows, the tail
}


@pytest.mark.parametrize("name", READ_ONCE)
def test_what_one_convolution_reads_is_not_kept(name):
    model = getattr(zoo, name)()
    x = jax.ShapeDtypeStruct((2, 96, 96, 3), "float32")
    found = []

    def note(call, args, kwargs, context):
        y = call(*args, **kwargs)
        if isinstance(context.module, BatchNorm):
            found.append(isinstance(y, kernels.RecomputableArray))
        return y

    def train(x):
        variables = model.init(jax.random.key(0), x)
        with nn.intercept_methods(note):
            rngs = {"dropout": jax.random.key(1)}
            return model.apply(variables, x, train=True, mutable=True, rngs=rngs)[0]

    jax.eval_shape(train, x)
    assert sum(found) == READ_ONCE[name]
