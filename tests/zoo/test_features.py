"""The outputs of inner modules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.random_variables import thin_lite


def test_shapes_along_the_way():
    model, variables, x = thin_lite()
    outputs = zoo.features((model, variables), x, ["stem", "head", "stage4/block2"])
    assert list(outputs) == ["stem", "head", "stage4/block2"]
    assert outputs["stem"].shape == (2, 20, 17, 32)
    assert outputs["stage4/block2"].shape == (2, 3, 3, 24)
    np.testing.assert_allclose(
        outputs["head"], jax.jit(model.apply)(variables, x), rtol=1e-5, atol=1e-6
    )


def test_a_layers_output_is_its_function_of_the_one_before():
    model, variables, x = thin_lite()
    outputs = zoo.features((model, variables), x, ["conv_head", "head"])
    head = variables["params"]["head"]
    want = outputs["conv_head"].mean((1, 2)) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(outputs["head"], want, rtol=1e-4, atol=1e-5)


def test_jit_grad_and_what_comes_later_is_not_computed():
    model, variables, x = thin_lite()

    def stem(x):
        return zoo.features((model, variables), x, "stem")["stem"]

    assert np.any(jax.grad(lambda x: stem(x).sum())(x))
    text = jax.jit(stem).lower(x).compile().as_text()
    whole = jax.jit(lambda x: model.apply(variables, x)).lower(x).compile().as_text()
    assert len(text) < len(whole) / 5


def test_of_a_trained_model(lite):
    x = jnp.zeros((1, 32, 32, 3))
    assert zoo.features(lite, x, "stage1")["stage1"].shape == (1, 16, 16, 16)


def test_a_wrong_path_lists_the_near_ones():
    model, variables, x = thin_lite()
    with pytest.raises(ValueError, match=r"no module 'stage4/blok2'.*stage4/block2"):
        zoo.features((model, variables), x, ["stem", "stage4/blok2"])
