"""Fusing: the same classifier, without batch norms. Every family's logits: test_models.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.models.small_models import small
from zoo_pretrained.checkpoint import flatten_variables


def test_folding_computed_by_hand():
    """norm(conv(1)) = ((1·3 + 2) − 1) / √(3 + 1) · 5 + 4 = 14 = 1·7.5 + 6.5."""
    conv = {"kernel": jnp.full((1, 1, 1, 1), 3.0), "bias": jnp.array([2.0])}
    norm = {"scale": jnp.array([5.0]), "bias": jnp.array([4.0])}
    stats = {"mean": jnp.array([1.0]), "var": jnp.array([3.0])}
    variables = {
        "params": {"a": {"conv": conv, "norm": norm}, "b": norm},
        "batch_stats": {"a": {"norm": stats}, "b": stats},
    }
    _, fused = zoo.fuse(zoo.VGG11_BN(norm_eps=1.0), variables)
    got = {path: float(array.ravel()[0]) for path, array in flatten_variables(fused["params"])}
    # The lone norm: 5/2 and 4 − 1·5/2.
    assert got == {"a/conv/kernel": 7.5, "a/conv/bias": 6.5, "b/scale": 2.5, "b/bias": 1.5}


@pytest.mark.parametrize("family", ["vgg", "densenet"])
def test_folding_under_jit_gives_the_same(family):
    model, variables, _ = small(family)
    eager = zoo.fuse(model, variables).variables
    traced = jax.jit(lambda v: zoo.fuse(model, v).variables)(variables)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), eager, traced)


def test_vgg_with_norms_becomes_a_plain_vgg():
    model, variables, x = small("vgg")
    _, fused = zoo.fuse(model, variables)
    plain = model.clone(norm=False).init(jax.random.key(0), x)
    assert jax.tree.map(np.shape, fused) == jax.tree.map(np.shape, plain)


def test_raises_for_misuse():
    model, variables, x = small("resnet")
    fused_model, fused = zoo.fuse(model, variables)
    with pytest.raises(ValueError, match="ResNet is fused already"):
        zoo.fuse(fused_model, fused)
    with pytest.raises(ValueError, match="lacks mean and var of stage1/block1/conv1/norm"):
        zoo.fuse(model, {"params": variables["params"]})
    with pytest.raises(ValueError, match=r'must have "params".*batch_stats'):
        zoo.fuse(model, {"batch_stats": variables["batch_stats"]})
    with pytest.raises(ValueError, match="no batch norms left to train"):
        fused_model.apply(fused, x, train=True)
