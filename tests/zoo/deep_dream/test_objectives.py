"""What a dream makes larger, checked against NumPy."""

import dataclasses

import numpy as np
import pytest

from tests.zoo.deep_dream.tiny import photo, tiny
from tests.zoo.models.small_models import SMALL, random_variables
from zoo.checkpoints.load import as_trained
from zoo.deep_dream import objectives
from zoo.deep_dream.objectives import Objective, default_layer, find_layers
from zoo.visualize.layers import LayerError

SIZE = 12


@pytest.fixture(scope="module")
def net():
    return tiny()


@pytest.fixture(scope="module")
def x():
    return np.float32(np.random.default_rng(3).normal(size=(1, SIZE, SIZE, 3)))


def mix(net, x):
    """The output of the first layer, and its kernel, in float64."""
    kernel, bias = (np.float64(net.variables["params"]["mix"][name]) for name in ("kernel", "bias"))
    return np.float64(x) @ kernel[0, 0] + bias, kernel[0, 0]


def test_mean_square(net, x):
    y, kernel = mix(net, x)
    value, gradient = Objective(net, "mix", None, SIZE)(x)
    np.testing.assert_allclose(value, (y**2).mean(), rtol=1e-5)
    np.testing.assert_allclose(gradient, 2 * y @ kernel.T / y.size, rtol=1e-4, atol=1e-7)


def test_guided(net, x):
    guide = photo(20, 20)
    target = mix(net, net.preprocess(guide))[0].reshape(-1, 4)
    y, kernel = mix(net, x)
    products = y.reshape(-1, 4) @ target.T
    best = target[products.argmax(1)].reshape(y.shape)
    value, gradient = Objective(net, "mix", guide, SIZE)(x)
    np.testing.assert_allclose(value, products.max(1).mean(), rtol=1e-5)
    np.testing.assert_allclose(gradient, best @ kernel.T / SIZE**2, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("guide", [None, photo(20, 20)], ids=["free", "guided"])
def test_several_layers_are_summed_by_weight(net, x, guide):
    both = Objective(net, {"conv1": 0.5, "mix": -2}, guide, SIZE)(x)
    mixed, later = (Objective(net, path, guide, SIZE)(x) for path in ("mix", "conv1"))
    for got, a, b in zip(both, mixed, later, strict=True):
        np.testing.assert_allclose(got, 0.5 * b - 2 * a, rtol=1e-4, atol=1e-6)


def test_a_sequence_weighs_all_alike(net):
    assert find_layers(net, ["mix", "conv2"], SIZE) == {"mix": 1.0, "conv2": 1.0}


def test_no_classifier_is_needed(net, x):
    params = {name: leaf for name, leaf in net.variables["params"].items() if name != "head"}
    headless = as_trained((net.model, {"params": params}))
    want = Objective(net, "conv2", None, SIZE)(x)
    for got, expected in zip(Objective(headless, "conv2", None, SIZE)(x), want, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_layer_of_the_missing_classifier():
    model = SMALL["squeezenet"]
    variables = random_variables(model)
    params = {name: leaf for name, leaf in variables["params"].items() if name != "head"}
    headless = as_trained((model, {**variables, "params": params}))
    with pytest.raises(LayerError, match="have nothing for layer 'head'"):
        find_layers(headless, "head", 64)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("conv", "no layer 'conv'; did you mean conv"),
        (["mix", "nowhere"], "no layer 'nowhere'"),
        ("head", r"no spatial extent: its output is \[3\]"),
        ([], "at least one layer"),
        ({}, "at least one layer"),
        ({"mix": "2"}, "weight of layer 'mix' must be a number, got '2'"),
        ({"mix": True}, "must be a number"),
        ({"mix": float("nan")}, "must be finite"),
        ({"mix": 0}, "not 0"),
    ],
)
def test_wrong_layers(net, layers, message):
    with pytest.raises(LayerError, match=message):
        find_layers(net, layers, SIZE)


@pytest.mark.parametrize(
    ("family", "path"),
    [
        ("resnet", "stage3"),
        ("vgg", "stage4"),
        ("densenet", "stage3"),
        ("googlenet", "stage4"),
        ("mobilenet_v1", "stage4"),
    ],
)
def test_default_layer(family, path):
    model = SMALL[family]
    trained = as_trained((model, random_variables(model)))
    assert default_layer(trained) == path


def test_default_layer_of_the_embedded_model(lite):
    assert default_layer(lite) == "stage5"


def test_default_layer_without_strides(net):
    assert default_layer(net, SIZE) == "conv2"


def test_weights_are_arguments_of_one_program(net, x):
    objectives._compiled.cache_clear()
    runs = {id(Objective(net, {"mix": weight}, None, SIZE)._run) for weight in (1, 2.5)}
    assert len(runs) == 1
    replaced = net.replace(variables=dataclasses.replace(net).variables)
    assert id(Objective(replaced, "mix", None, SIZE)._run) in runs
