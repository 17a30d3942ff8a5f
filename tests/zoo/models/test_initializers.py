"""The initial values of parameters and statistics."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.models.small_models import SMALL
from zoo_pretrained.checkpoint import flatten_variables


def test_all_parameters_come_from_one_draw():
    model = SMALL["mobilenet_v2"]
    jaxpr = jax.make_jaxpr(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert str(jaxpr).count("random_bits[") == 1


def test_initial_values_follow_the_key_and_have_the_deviation_of_he():
    model = SMALL["mobilenet_v1"]
    shape = jax.ShapeDtypeStruct((1, 32, 32, 3), "float32")
    init = jax.jit(lambda key: model.init(key, shape))
    variables, same, other = (
        jax.tree.map(np.asarray, init(key))
        for key in (jax.random.key(0), {"params": jax.random.key(0)}, jax.random.key(1))
    )
    jax.tree.map(np.testing.assert_array_equal, variables, same)
    others = dict(flatten_variables(other))
    firsts = []
    for path, array in flatten_variables(variables):
        constant = {"scale": 1, "var": 1, "bias": 0, "mean": 0}.get(path.rpartition("/")[2])
        if constant is not None:
            assert (array == constant).all(), path
        elif path.endswith("conv/kernel"):
            kh, kw, _, out = array.shape
            groups = out if "depthwise" in path else 1
            want = (2 * groups / (kh * kw * out)) ** 0.5
            # Deviations of a sample's deviation and mean; five of them are never exceeded.
            assert abs(array.std() / want - 1) < 5 / (2 * array.size) ** 0.5, path
            assert abs(array.mean() / want) < 5 / array.size**0.5, path
            assert not np.array_equal(array, others[path])
            firsts.append(float(array.ravel()[0]))
    assert len(set(firsts)) == len(firsts)  # no number is used twice


@pytest.mark.parametrize("family", ["vgg", "densenet", "squeezenet"])
def test_activations_neither_vanish_nor_explode(family):
    """By He et al. the outputs of the layers keep their scale as they go deeper."""
    model = SMALL[family]
    x = jnp.float32(np.random.default_rng(0).normal(size=(2, 48, 48, 3)))
    variables = model.init(jax.random.key(0), x)
    for path, y in zoo.features((model, variables), x, "stage*").items():
        assert 0.02 < float(y.std()) < 50, path


def test_init_takes_keywords_and_foreign_layers():
    class WithDense(type(SMALL["squeezenet"])):
        @nn.compact
        def __call__(self, x, train=False):
            return nn.Dense(3)(super().__call__(x, train))

    x = jax.ShapeDtypeStruct((1, 32, 32, 3), "float32")
    shapes = jax.eval_shape(lambda key: SMALL["squeezenet"].init(key, x=x), jax.random.key(0))
    model = WithDense(num_classes=5, version=SMALL["squeezenet"].version)
    more = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(x.shape))
    assert more["params"].keys() == shapes["params"].keys() | {"Dense_0"}
