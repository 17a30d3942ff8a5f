"""What the families share, layer by layer."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kernels
from zoo.layers import BatchNorm, Conv, ConvNorm, drop_path


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
    (choice,) = kernels.explain(lambda x: conv.apply({"params": {"kernel": kernel}}, x), x)
    assert choice.op == op


def test_inference_norm_by_hand():
    """(7 − 3) / √(3 + 1) · 5 − 4 = 6."""
    variables = {
        "params": {"scale": jnp.array([5.0]), "bias": jnp.array([-4.0])},
        "batch_stats": {"mean": jnp.array([3.0]), "var": jnp.array([3.0])},
    }
    y = BatchNorm(eps=1.0, act="relu").apply(variables, jnp.array([[7.0], [0.0]]))
    assert y.ravel().tolist() == [6.0, 0.0]


def test_running_variance_is_the_unbiased_one():
    """1 and 3: mean 2, biased variance 1, which normalises, unbiased 2, half of it remembered."""
    norm, x = BatchNorm(eps=0.0, momentum=0.5), jnp.array([[1.0], [3.0]])
    variables = norm.init(jax.random.key(0), x)
    y, new = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    assert y.ravel().tolist() == [-1.0, 1.0]
    assert new["batch_stats"] == {"mean": jnp.array([1.0]), "var": jnp.array([1.5])}


def test_a_parameter_of_another_shape_is_named():
    layer = ConvNorm(4, 3)
    variables = layer.init(jax.random.key(0), jnp.zeros((1, 4, 4, 2)))
    with pytest.raises(ValueError, match=r"conv/kernel has shape .*2, 4\).*need .*5, 4\)"):
        layer.apply(variables, jnp.zeros((1, 4, 4, 5)))
