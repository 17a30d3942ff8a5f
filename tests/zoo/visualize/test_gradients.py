"""Gradient methods, against values by hand and against the definitions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo_kernels as kernels
from tests.zoo.models.small_models import SMALL, logits, small
from tests.zoo.visualize.by_hand import linear, photo, pixels, plain
from zoo.checkpoints.load import as_trained
from zoo.runtime.checks import ArgumentError
from zoo.visualize import gradients
from zoo.visualize.inputs import prepare_inputs
from zoo.visualize.rules import RECTIFIERS, activate
from zoo_kernels.bias_act import lax as bias_act_lax
from zoo_kernels.core.activations import ACTIVATIONS, Activation

# Channel 0 of the net sees red − 0.5, channel 1 green + blue; kind 1 weighs them by −1 and 3.
KERNEL, BIAS, HEAD = [[1, 0], [0, 1], [0, 1]], [-0.5, 0], [[2, -1], [0, 3]]


def masks_and_areas():
    x = pixels(photo())
    return x, x[..., 0] > 0.5, x.shape[0] * x.shape[1]


@pytest.fixture(scope="module")
def net():
    return plain(KERNEL, BIAS, HEAD)


def expected_gradient():
    x, red, area = masks_and_areas()
    g = np.empty(x.shape)
    g[..., 0] = -1 * red / area  # class 1: −1 · red
    g[..., 1] = g[..., 2] = 3 / area
    return x, g


def test_gradient_is_that_of_the_logit(net):
    _, g = expected_gradient()
    a = gradients.gradient(net, photo(), 1)
    np.testing.assert_allclose(a.maps[0], g, rtol=1e-5)
    assert (a.method, a.labels, list(a.targets)) == ("gradient", ("kind 1",), [1])


def test_input_x_gradient(net):
    x, g = expected_gradient()
    a = gradients.input_x_gradient(net, photo(), 1)
    np.testing.assert_allclose(a.maps[0], x * g, rtol=1e-5, atol=1e-9)


def test_positive_and_negative_saliency_are_the_two_signs(net):
    _, g = expected_gradient()
    positive = gradients.positive_saliency(net, photo(), 1)
    negative = gradients.negative_saliency(net, photo(), 1)
    np.testing.assert_allclose(positive.maps[0], np.maximum(g, 0), rtol=1e-5)
    np.testing.assert_allclose(negative.maps[0], np.maximum(-g, 0), rtol=1e-5)


def test_guided_backprop_stops_negative_gradients_at_the_rectifier(net):
    _, red, area = masks_and_areas()
    a = gradients.guided_backprop(net, photo(), 1)
    expected = np.stack([np.zeros_like(red), *[np.full(red.shape, 3 / area)] * 2], -1)
    np.testing.assert_allclose(a.maps[0], expected, rtol=1e-5)
    # For class 0 the gradient at the rectifier is positive, so the rule changes nothing.
    plain_map = gradients.gradient(net, photo(), 0).maps
    np.testing.assert_allclose(gradients.guided_backprop(net, photo(), 0).maps, plain_map)


def test_deconvnet_ignores_where_the_rectifier_was_closed(net):
    x, _, area = masks_and_areas()
    a = gradients.deconvnet(net, photo(), 0)
    expected = np.zeros(x.shape)
    expected[..., 0] = 2 / area  # also where red is below 0.5
    np.testing.assert_allclose(a.maps[0], expected, rtol=1e-5)


@pytest.mark.parametrize("act", ["relu", "relu6", "hard_swish", "silu", "gelu"])
def test_rules_by_their_definition(act):
    z, g = np.random.default_rng(0).normal(0, 4, (2, 200)).astype(np.float32)
    y, back = jax.vjp(lambda z: activate(act, "guided", z), z)
    np.testing.assert_array_equal(y, ACTIVATIONS[act].value(z))
    slope = jax.vmap(jax.grad(ACTIVATIONS[act].value))(z)
    np.testing.assert_allclose(back(g)[0], np.where(g > 0, g * slope, 0), rtol=1e-5, atol=5e-6)
    _, back = jax.vjp(lambda z: activate(act, "deconvnet", z), z)
    np.testing.assert_array_equal(back(g)[0], np.maximum(g, 0))


def rectify_gradient(value, rule):
    """A rectifier whose gradient follows a rule, written by other means than the zoo's."""

    @jax.custom_vjp
    def stop_negative(y):
        return y

    stop_negative.defvjp(lambda y: (y, None), lambda _, g: (jnp.where(g > 0, g, 0),))

    def apply(z):
        y = value(z)
        if rule == "deconvnet":
            y = z + jax.lax.stop_gradient(y - z)
        return stop_negative(y)

    return apply


@pytest.mark.parametrize(
    ("family", "rule"),
    [*((family, "guided") for family in SMALL), ("mobilenet_v3", "deconvnet")],
)
def test_rules_act_on_every_rectifier_of_every_family(family, rule, monkeypatch):
    """As if the operators' own rectifiers had another gradient, which needs no interceptor."""
    model, variables, x = small(family)
    x = x[:1]
    targets = logits(model, variables, x).argmax(-1)

    def differentiate(rule=None):
        function = functools.partial(gradients.input_gradient, model, rule=rule)
        return np.asarray(jax.jit(function)(variables, x, targets))

    with kernels.using("lax"):
        found, ordinary = differentiate(rule), differentiate()
        for act in RECTIFIERS:
            own = bias_act_lax._VALUES.get(act, ACTIVATIONS[act].value)
            value = rectify_gradient(own, rule)
            monkeypatch.setitem(bias_act_lax._VALUES, act, value)
            monkeypatch.setitem(ACTIVATIONS, act, Activation(value))
        jax.clear_caches()  # of what was traced with the rectifiers' own gradients
        expected = differentiate()
        jax.clear_caches()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-5 * scale)
    assert np.abs(found - ordinary).max() > 0.05 * scale


def test_smooth_grad_is_the_mean_over_noisy_copies(net):
    image = photo()
    x, noise, samples = pixels(image), 0.2, 7
    std = noise * (x.max() - x.min())
    keys = jax.random.split(jax.random.fold_in(jax.random.key(5), 0), samples)
    copies = [x + std * np.asarray(jax.random.normal(key, x.shape, jnp.float32)) for key in keys]
    each = []
    for copy in copies:
        g = np.zeros(x.shape)
        g[..., 0] = 2 * (copy[..., 0] > 0.5) / 64  # class 0
        each.append(g)
    options = {"samples": samples, "noise": noise, "seed": 5, "batch_size": 3}
    for statistic, expected in (
        ("mean", np.mean(each, 0)),
        ("square", np.mean(np.square(each), 0)),
        ("variance", np.var(each, 0)),
    ):
        a = gradients.smooth_grad(net, image, 0, statistic=statistic, **options)
        np.testing.assert_allclose(a.maps[0], expected, rtol=1e-4, atol=1e-8)
    other = gradients.smooth_grad(net, image, 0, **{**options, "seed": 6})
    assert np.abs(other.maps - np.mean(each, 0)).max() > 0
    # Batches change nothing but the order of the sum.
    whole = gradients.smooth_grad(net, image, 0, **{**options, "batch_size": 100})
    np.testing.assert_allclose(whole.maps[0], np.mean(each, 0), rtol=1e-4, atol=1e-8)


def test_integrated_gradients_of_a_linear_net_are_weights_times_the_way():
    weights = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    net, x = linear(weights, [0, 0]), pixels(photo())
    for baseline, start in (("black", 0.0), ("white", 1.0), ("grey", 0.0), (0.25, 0.25)):
        a = gradients.integrated_gradients(net, photo(), 1, baselines=baseline, steps=3)
        np.testing.assert_allclose(a.maps[0], weights[1] * (x - start), rtol=1e-4, atol=1e-5)
    both = gradients.integrated_gradients(net, photo(), 1, baselines=("black", "white"), steps=3)
    np.testing.assert_allclose(both.maps[0], weights[1] * (x - 0.5), rtol=1e-4, atol=1e-5)
    array = np.full((8, 8, 3), 0.1, np.float32)
    a = gradients.integrated_gradients(net, photo(), 1, baselines=[array], steps=3)
    np.testing.assert_allclose(a.maps[0], weights[1] * (x - 0.1), rtol=1e-4, atol=1e-5)
    assert a.settings["baselines"] == ["array"]


@pytest.mark.parametrize("baseline", ["black", "blur", "noise"])
def test_integrated_gradients_are_complete(baseline):
    """Their sum is the logit's change from the baseline to the image, to 1 %."""
    model, variables, _ = small("mobilenet_v3")
    trained = as_trained((model, variables))
    inputs = prepare_inputs(trained, photo(size=64), size=40)
    a = gradients.integrated_gradients(trained, inputs, baselines=baseline, steps=64)
    start = gradients.make_baseline(inputs, 0, baseline, 0)
    values = trained(np.stack([inputs.x[0], start]))[:, int(a.targets[0])]
    change = float(values[0] - values[1])
    assert abs(change) > 0.01
    assert abs(a.maps.sum() - change) < 0.01 * abs(change)


@pytest.mark.slow
def test_integrated_gradients_of_the_embedded_model_are_complete(lite, examples):
    """Its logit has many kinks on the way, so that 1 % takes many steps."""
    inputs = prepare_inputs(lite, examples / "cat.jpg", size=64)
    a = gradients.integrated_gradients(lite, inputs, baselines="grey", steps=1000, batch_size=50)
    start = gradients.make_baseline(inputs, 0, "grey", 0)
    values = lite(np.stack([inputs.x[0], start]))[:, int(a.targets[0])]
    change = float(values[0] - values[1])
    assert abs(a.maps.sum() - change) < 0.01 * abs(change)


@pytest.mark.parametrize(
    ("method", "setting", "message"),
    [
        ("smooth_grad", {"samples": 0}, "samples must be an integer of at least 1, got 0"),
        ("smooth_grad", {"samples": 2.5}, "samples must be an integer of at least 1, got 2.5"),
        ("smooth_grad", {"batch_size": 0}, "batch_size must be an integer"),
        ("smooth_grad", {"noise": -1}, "noise must be a number above 0, got -1"),
        ("smooth_grad", {"statistic": "median"}, "one of mean, square, variance, got 'median'"),
        ("integrated_gradients", {"steps": True}, "steps must be an integer of at least 1"),
        ("integrated_gradients", {"baselines": "red"}, "baseline must be black, .*got 'red'"),
        ("integrated_gradients", {"baselines": []}, "at least one baseline"),
        ("integrated_gradients", {"baselines": np.ones((2, 2, 3))}, r"of shape \(2, 2, 3\)"),
        ("integrated_gradients", {"baselines": float("nan")}, "got nan"),
        ("integrated_gradients", {"baselines": ([[1.0, 2.0], [3.0]],)}, "baseline must be black"),
        ("integrated_gradients", {"baselines": True}, "got True"),
    ],
)
def test_settings_that_mean_nothing(net, method, setting, message):
    with pytest.raises(ArgumentError, match=message):
        getattr(gradients, method)(net, photo(), 0, **setting)
