"""The loss: its parts by hand, its zero, and the layers that it is taken from."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.deep_dream.tiny import tiny
from zoo.inference.preprocessing import Preprocessing
from zoo.inference.trained import Info, Trained, make_labels
from zoo.runtime.checks import ArgumentError
from zoo.style.losses import (
    LossWeights,
    StyleLoss,
    gram_matrix,
    make_style_loss,
    relative_distance,
    total_variation,
)

WEIGHTS = LossWeights(content=2.0, style=3.0, total_variation=5.0)
PICTURES, PHOTOS, STYLES = np.random.default_rng(0).random((3, 2, 24, 24, 3), np.float32)


@functools.cache
def tiny_loss():
    """A loss of a tiny network, and that network's variables."""
    trained = tiny()
    layers = ("conv2",), ("mix", "conv1")
    return StyleLoss(trained.model, trained.info.preprocessing, *layers, WEIGHTS), trained.variables


def judge(pictures, photos, styles):
    loss, variables = tiny_loss()
    content = loss.maps(variables, photos, loss.content_layers)
    total, parts = loss(variables, pictures, content, loss.grams(variables, styles))
    return float(total), {name: float(value) for name, value in parts.items()}


def test_gram_matrix_by_hand():
    """Four positions of two channels: [1, 2], [3, 4], [0, 1] and [2, 0]."""
    maps = jnp.array([[[[1.0, 2], [3, 4]], [[0, 1], [2, 0]]]])
    products = [[1 + 9 + 0 + 4, 2 + 12 + 0 + 0], [2 + 12 + 0 + 0, 4 + 16 + 1 + 0]]
    np.testing.assert_allclose(gram_matrix(maps), [np.array(products) / (2 * 2 * 2)], rtol=1e-6)


def test_gram_matrix_does_not_depend_on_places():
    maps = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
    shuffled = np.random.default_rng(1).permutation(maps.reshape(2, 24, 3), axis=1)
    moved = gram_matrix(jnp.asarray(shuffled.reshape(2, 8, 3, 3)))
    np.testing.assert_allclose(moved, gram_matrix(jnp.asarray(maps)), atol=1e-6)


def test_total_variation_by_hand():
    """Differences of 2, 4 and 5 down, and of 1, 2, 3 and 3 to the right."""
    image = jnp.array([[0.0, 1, 3], [2, 5, 8]])[None, :, :, None]
    down, right = (4 + 16 + 25) / 3, (1 + 4 + 9 + 9) / 4
    np.testing.assert_allclose(total_variation(image), down + right, rtol=1e-6)


def test_total_variation_of_an_even_image_is_0():
    assert total_variation(jnp.full((2, 5, 6, 3), 0.7)) == 0


def test_relative_distance_is_the_mean_over_images():
    """From [3, 4], of length 5, 0 is as far as its length; [3, 2] is a distance of 2 away."""
    reference = jnp.array([[3.0, 4.0], [3.0, 4.0]])
    x = jnp.array([[0.0, 0.0], [3.0, 2.0]])
    np.testing.assert_allclose(relative_distance(x, reference), (1 + 4 / 25) / 2, rtol=1e-6)


def test_relative_distance_to_nothing_is_finite():
    assert np.isfinite(relative_distance(jnp.ones((1, 3)), jnp.zeros((1, 3))))


def test_a_photo_in_its_own_style_has_no_loss_but_variation():
    total, parts = judge(PHOTOS, PHOTOS, PHOTOS)
    assert parts["content"] < 1e-10  # roundings, squared
    assert parts["style"] < 1e-10
    np.testing.assert_allclose(total, 5 * parts["total_variation"], rtol=1e-5)


def test_parts_are_those_of_the_layers():
    """From the layers' outputs in float64, by the definitions."""
    loss, variables = tiny_loss()
    maps, wanted, styles = (
        jax.tree.map(np.float64, loss.maps(variables, images, ("conv2", "mix", "conv1")))
        for images in (PICTURES, PHOTOS, STYLES)
    )

    def distance(x, reference):
        axes = tuple(range(1, x.ndim))
        return (((x - reference) ** 2).sum(axes) / (reference**2).sum(axes)).mean()

    def gram(maps):
        return np.einsum("nyxc,nyxd->ncd", maps, maps) / maps[0].size

    total, parts = judge(PICTURES, PHOTOS, STYLES)
    # Of all photos together, and of each picture alone.
    content = distance(maps["conv2"][None], wanted["conv2"][None])
    style = np.mean([distance(gram(maps[n]), gram(styles[n])) for n in ("mix", "conv1")])
    exact = np.float64(PICTURES)
    variation = (np.diff(exact, axis=1) ** 2).mean() + (np.diff(exact, axis=2) ** 2).mean()
    np.testing.assert_allclose(parts["content"], content, rtol=1e-4)
    np.testing.assert_allclose(parts["style"], style, rtol=1e-4)
    np.testing.assert_allclose(parts["total_variation"], variation, rtol=1e-4)
    np.testing.assert_allclose(total, 2 * content + 3 * style + 5 * variation, rtol=1e-4)


def test_the_network_sees_normalised_pixels():
    """The first layer mixes the channels of single pixels, so that it can be computed by hand."""
    loss, variables = tiny_loss()
    normalised = (np.float64(PHOTOS) - loss.preprocessing.mean) / loss.preprocessing.std
    mix = variables["params"]["mix"]
    want = normalised @ np.float64(mix["kernel"][0, 0]) + np.float64(mix["bias"])
    np.testing.assert_allclose(loss.maps(variables, PHOTOS, ["mix"])["mix"], want, atol=1e-4)


def empty(model):
    """A model without a classifier, whose weights take no memory: nothing is computed."""
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), model.variable_shapes())
    kept = {k: v for k, v in variables["params"].items() if k not in model.classifier}
    preprocessing = Preprocessing(224, 224, "bilinear", (0.5,) * 3, (0.5,) * 3)
    info = Info(model.title, "none", "", "", preprocessing, make_labels(None, 1000), None)
    return Trained(model, {**variables, "params": kept}, info)


@pytest.mark.parametrize(
    ("constructor", "depths"), [(zoo.VGG16, (2, 2, 3, 3)), (zoo.VGG11, (1, 1, 2, 2))]
)
def test_of_vgg_the_ends_of_stages_are_usual(constructor, depths):
    """Johnson's are relu3_3, and relu1_2, relu2_2, relu3_3 and relu4_3 of VGG-16."""
    loss = make_style_loss(empty(constructor()), WEIGHTS)
    assert loss.content_layers == (f"stage3/conv{depths[2]}",)
    ends = [f"stage{number}/conv{depth}" for number, depth in enumerate(depths, start=1)]
    assert loss.style_layers == tuple(ends)


def test_layers_can_be_patterns():
    loss = make_style_loss(empty(zoo.VGG11()), WEIGHTS, ["stage2"], ["stage3/conv*"])
    assert loss.content_layers == ("stage2",)
    assert loss.style_layers == ("stage3/conv1", "stage3/conv2")


@pytest.mark.parametrize("argument", ["content_layers", "style_layers"])
def test_unknown_layers_are_errors_that_suggest_others(argument):
    message = rf"{argument}: .*'stage3/conv9'; did you mean .*stage3/conv"
    with pytest.raises(ArgumentError, match=message):
        make_style_loss(empty(zoo.VGG11()), WEIGHTS, **{argument: ["stage3/conv9"]})


def test_layers_without_positions_are_errors(lite):
    with pytest.raises(ArgumentError, match=r"'head' has no positions, its shape is \(1, 1000\)"):
        make_style_loss(lite, WEIGHTS, ["stage3"], ["head"])


def test_a_model_of_grey_images_is_an_error():
    with pytest.raises(ArgumentError, match=r"model must take photos in colour.*grey"):
        make_style_loss(tiny(channels=1), WEIGHTS, ["conv2"], ["conv1"])


def test_of_vgg_layers_are_taken_after_rectifiers():
    trained = empty(zoo.VGG11())
    params = {**trained.variables["params"]}
    conv = params["stage1"]["conv1"]["conv"]
    minus = {"conv1": {"conv": {**conv, "bias": np.full_like(conv["bias"], -1.0)}}}
    variables = {**trained.variables, "params": {**params, "stage1": minus}}
    loss = make_style_loss(trained, WEIGHTS)
    maps = loss.maps(variables, jnp.ones((1, 32, 32, 3)), ["stage1/conv1"])
    np.testing.assert_array_equal(maps["stage1/conv1"], 0)


def test_of_other_networks_the_stem_and_strides_4_to_16_are_usual(lite):
    loss = make_style_loss(lite, WEIGHTS)
    shapes = jax.eval_shape(
        lambda x: loss.maps(lite.variables, x, (*loss.content_layers, *loss.style_layers)),
        jnp.zeros((1, 64, 64, 3)),
    )
    assert [64 // shapes[layer].shape[1] for layer in loss.content_layers] == [8]
    assert sorted(64 // shapes[layer].shape[1] for layer in loss.style_layers) == [2, 4, 8, 16]
