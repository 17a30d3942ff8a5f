"""Fusing: the same classifier, without batch norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from pretrained.store import leaves
from tests.zoo.random_variables import thin_lite


def test_same_logits_and_no_norms():
    model, variables, x = thin_lite()
    fused_model, fused = zoo.fuse(model, variables)
    assert list(fused) == ["params"]
    assert not any("norm" in path for path, _ in leaves(fused))
    want = jax.jit(model.apply)(variables, x)
    got = jax.jit(fused_model.apply)(fused, x)
    # Float32 rounds anew in some 30 layers; the same network in another order.
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * float(jnp.abs(want).max()))


def test_fused_variables_are_those_of_the_fused_model():
    model, variables, x = thin_lite()
    fused_model, fused = zoo.fuse(model, variables)
    shapes = jax.eval_shape(fused_model.init, jax.random.key(0), x)
    assert jax.tree.map(np.shape, fused) == jax.tree.map(np.shape, dict(shapes))


def test_under_jit():
    model, variables, _ = thin_lite()
    eager = zoo.fuse(model, variables)[1]
    traced = jax.jit(lambda v: zoo.fuse(model, v)[1])(variables)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), eager, traced)


def test_misuse_is_named():
    model, variables, x = thin_lite()
    fused_model, fused = zoo.fuse(model, variables)
    with pytest.raises(ValueError, match="fused already"):
        zoo.fuse(fused_model, fused)
    with pytest.raises(ValueError, match="batch_stats"):
        zoo.fuse(model, {"params": variables["params"]})
    with pytest.raises(ValueError, match="no batch norms left to train"):
        fused_model.apply(fused, x, train=True)
