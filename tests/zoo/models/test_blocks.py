"""How layers are put together: chains whose activations are recomputed, and stochastic depth."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
import zoo_kernels as kernels
from zoo.models.blocks import chain, drop_path
from zoo.models.layers import BatchNorm, Conv, ConvNorm, Dense, LayerOptions, MaxPool


class Chained(nn.Module):
    """A chain of layers, with a convolution as its residual if asked for."""

    make_layers: object
    projected: bool = False

    @nn.compact
    def __call__(self, x, train=False):
        residual = ConvNorm(4, act="identity", name="shortcut") if self.projected else None
        return chain(self.make_layers(), x, train, residual)


def three_layers(options=None):
    options = options or LayerOptions()
    return [
        BatchNorm("relu", options, name="preact"),
        ConvNorm(8, 3, options=options, name="inner"),
        ConvNorm(4, 3, options=options, name="outer"),
    ]


X = jnp.float32(np.random.default_rng(0).normal(size=(2, 6, 6, 3)))


def test_chain_is_its_layers_in_turn():
    """With gradients, whether activations are recomputed or kept."""

    def loss(variables, options):
        model = Chained(lambda: three_layers(options))
        y, new = model.apply(variables, X, True, mutable=["batch_stats"])
        return jnp.square(y).sum(), new

    class Plain(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            for layer in three_layers():
                x = layer(x, train)
            return x

    variables = Plain().init(jax.random.key(0), X, False)

    def plain(variables):
        y, new = Plain().apply(variables, X, True, mutable=["batch_stats"])
        return jnp.square(y).sum(), new

    want = jax.jit(jax.grad(plain, has_aux=True))(variables)
    for recompute in (True, False):
        options = LayerOptions(recompute=recompute)
        got = jax.jit(jax.grad(lambda v, o=options: loss(v, o), has_aux=True))(variables)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-5), got, want)


def test_a_module_makes_the_residual_just_before_the_last_layer():
    calls = []

    def note(call, args, kwargs, context):
        if context.method_name == "__call__":
            calls.append("/".join(context.module.path))
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        Chained(three_layers, projected=True).init(jax.random.key(0), X)
    outermost = [path for path in calls if path and "/" not in path]
    assert outermost == ["preact", "inner", "shortcut", "outer"]


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (
            lambda: [Conv(4, name="first"), ConvNorm(4, name="second")],
            "Chained: Conv 'first' ends with no batch norm",
        ),
        (
            lambda: [MaxPool(2, 2, name="pool"), ConvNorm(4, name="second")],
            "MaxPool 'pool' ends with no batch norm",
        ),
        (
            lambda: [ConvNorm(4, name="first"), Dense(4, name="fc")],
            "Dense 'fc' begins with no convolution.*output of .*ConvNorm 'first'",
        ),
        (
            lambda: [ConvNorm(4, name="first"), BatchNorm(name="norm")],
            "BatchNorm 'norm' begins with no convolution",
        ),
    ],
)
def test_layers_that_cannot_be_chained_are_named(layers, words):
    """When the model is built, in inference too."""
    with pytest.raises(TypeError, match=words):
        jax.eval_shape(Chained(layers).init, jax.random.key(0), X)


# Norms of which one convolution alone reads the result, by the papers' tables.
RECOMPUTED = {
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


@pytest.mark.parametrize("name", RECOMPUTED)
def test_outputs_that_one_convolution_reads_are_recomputed(name):
    assert count_recomputed(getattr(zoo, name)()) == RECOMPUTED[name]


def test_recompute_is_an_option_of_the_model():
    assert count_recomputed(zoo.ResNet18(recompute=False)) == 0


@pytest.mark.parametrize(("name", "count"), [("VGG16_BN", 0), ("ResNet18", 8)])
def test_recomputed_outputs_with_remat(name, count):
    """VGG's convolutions are rematerialised one by one, so that none reads within a block."""
    assert count_recomputed(getattr(zoo, name)(remat=True)) == count


def count_recomputed(model):
    """The norms of a model that give a RecomputableArray in training."""
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
    return sum(found)


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
    positive = factor[:, 0] > 0
    np.testing.assert_allclose(factor[positive], 1 / 0.75, rtol=1e-6)
    # Their number is binomial: 750 with a deviation of 13.7.
    assert abs(positive.sum() - 750) < 4 * 13.7


def test_drop_path_is_the_identity_in_inference():
    x = jnp.ones((8, 1, 1, 1))
    assert (Dropped(0.9).apply({}, x, False) == x).all()
