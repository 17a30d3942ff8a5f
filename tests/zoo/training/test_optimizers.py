"""Schedules and optimizers beside arithmetic by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.models.small_models import SMALL
from zoo.training.optimizers import (
    find_decayed,
    layer_factors,
    make_optimizer,
    make_schedule,
    scale_rate,
)
from zoo.training.settings import OPTIMIZERS, Settings
from zoo_pretrained.checkpoint import flatten_variables

RATE = 0.4
MODEL = SMALL["vgg"]
PARAMS = {
    "stage1": {
        "conv1": {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([0.5, 0.25])},
        "norm1": {"scale": jnp.array([1.0, 2.0])},
    },
    "head": {"kernel": jnp.array([3.0])},
}
GRADIENTS = jax.tree.map(lambda x: 0.1 * x + 0.3, PARAMS)


def rates(steps, steps_per_epoch=10, **settings):
    schedule = make_schedule(Settings(rate=RATE, **settings), steps, steps_per_epoch)
    return [float(schedule(step)) for step in range(steps)]


def test_a_cosine_goes_from_the_rate_to_almost_zero():
    got = rates(100, schedule="cosine")
    want = [RATE * (1 + math.cos(math.pi * step / 100)) / 2 for step in range(100)]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
    assert got[0] == pytest.approx(RATE)
    assert 0 < got[-1] < 1e-3 * RATE


def test_a_warm_up_rises_to_the_rate_and_no_step_is_wasted():
    got = rates(100, schedule="cosine", warmup_epochs=0.5)
    np.testing.assert_allclose(got[:5], [RATE * k / 5 for k in (1, 2, 3, 4, 5)], rtol=1e-6)
    want = [RATE * (1 + math.cos(math.pi * step / 95)) / 2 for step in range(95)]
    np.testing.assert_allclose(got[5:], want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("steps", "warmup_epochs", "want"),
    [(3, 0.1, [1, 1, 1]), (4, 99, [0.25, 0.5, 0.75, 1]), (1, 5, [1]), (2, 0.01, [1, 1])],
)
def test_a_warm_up_of_one_step_of_all_or_of_none(steps, warmup_epochs, want):
    got = rates(steps, schedule="constant", warmup_epochs=warmup_epochs)
    np.testing.assert_allclose(got, RATE * np.array(want), rtol=1e-6)


def test_steps_count_from_the_end_of_the_warm_up():
    got = rates(50, schedule="step", step_epochs=2, step_factor=0.5, warmup_epochs=0.4)
    assert got[4:24] == pytest.approx([RATE] * 20)
    assert got[24:44] == pytest.approx([RATE / 2] * 20)
    assert got[44:] == pytest.approx([RATE / 4] * 6)


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_others_are_constant(schedule):
    assert rates(30, schedule=schedule) == pytest.approx([RATE] * 30)


def test_kernels_decay_and_norms_and_biases_do_not():
    params = zoo.MobileNetV1(width=0.25).variable_shapes()["params"]
    decayed = dict(flatten_variables(find_decayed(params)))
    assert decayed == {
        path: path.split("/")[-1] == "kernel" for path, _ in flatten_variables(params)
    }
    assert set(decayed.values()) == {True, False}


def updates(steps=1, **settings):
    """What an optimizer makes of the same gradients again and again, with the last state."""
    optimizer = make_optimizer(Settings(**settings), MODEL, lambda step: RATE)
    state = optimizer.init(PARAMS)
    for _ in range(steps):
        update, state = optimizer.update(GRADIENTS, state, PARAMS)
    return update, state, optimizer


def by_hand(function):
    """`function` of (path, parameter, gradient) in float64 for each parameter."""
    gradients = dict(flatten_variables(GRADIENTS))
    return {
        path: function(path, np.asarray(parameter, np.float64), np.asarray(gradients[path], float))
        for path, parameter in flatten_variables(PARAMS)
    }


def assert_equal(got, want, rtol=1e-5):
    for path, array in flatten_variables(got):
        np.testing.assert_allclose(array, want[path], rtol=rtol, err_msg=path)


def decay(path, parameter):
    return 0.01 * parameter if path.endswith("kernel") else 0


def test_sgd_adds_decay_to_the_gradient_and_momentum():
    got, *_ = updates(3, optimizer="sgd", weight_decay=0.01, momentum=0.5)
    assert_equal(got, by_hand(lambda path, p, g: -RATE * 1.75 * (g + decay(path, p))))


def test_adamw_decays_apart_from_the_gradient():
    got, *_ = updates(2, optimizer="adamw", weight_decay=0.01)
    # Of a constant gradient both moments are exact, but for the rounding of 1 − 0.999².
    want = by_hand(lambda path, p, g: -RATE * (g / (abs(g) + 1e-8) + decay(path, p)))
    assert_equal(got, want, rtol=1e-4)


def test_lamb_scales_each_kernel_by_its_norm():
    def scaled(path, p, g):
        update = g / (abs(g) + 1e-6) + decay(path, p)
        ratio = np.linalg.norm(p) / np.linalg.norm(update) if path.endswith("kernel") else 1
        return -RATE * update * ratio

    assert_equal(updates(optimizer="lamb", weight_decay=0.01)[0], by_hand(scaled))


def test_rmsprop_begins_with_a_mean_square_of_one():
    def scaled(path, p, g):
        g = g + decay(path, p)
        return -RATE * g / np.sqrt(0.9 + 0.1 * g**2 + 1e-3)

    assert_equal(updates(optimizer="rmsprop", weight_decay=0.01)[0], by_hand(scaled))


def test_larger_gradients_are_clipped_and_smaller_ones_are_not():
    norm = math.sqrt(sum((np.asarray(g, np.float64) ** 2).sum() for g in leaves(GRADIENTS)))
    clipped, *_ = updates(clip_norm=norm / 2)
    assert_equal(clipped, by_hand(lambda path, p, g: -RATE * g / 2))
    assert_equal(updates(clip_norm=norm * 2)[0], by_hand(lambda path, p, g: -RATE * g))


def leaves(tree):
    return jax.tree.leaves(tree)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_factor_of_the_rate_halves_the_update_and_keeps_the_rest_of_the_state(optimizer):
    settings = {"optimizer": optimizer, "weight_decay": 0.01, "clip_norm": 1.0}
    _, state, chain = updates(**settings)
    whole, next_state = chain.update(GRADIENTS, state, PARAMS)
    half, half_state = chain.update(GRADIENTS, scale_rate(state, 0.5), PARAMS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b / 2, rtol=1e-6), half, whole)
    after = scale_rate(half_state, 1.0)
    assert jax.tree.structure(after) == jax.tree.structure(next_state)
    jax.tree.map(np.testing.assert_array_equal, after, next_state)


def test_a_factor_of_the_rate_keeps_the_types_of_the_state_in_64_bits():
    # With other types the next step would be compiled anew, and its state refused.
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: x.astype(jnp.float64), PARAMS)
        state = make_optimizer(Settings(), MODEL, lambda step: RATE).init(params)
        scaled = scale_rate(state, 0.5)
        assert jax.tree.map(jnp.result_type, scaled) == jax.tree.map(jnp.result_type, state)


def test_the_schedule_is_followed():
    chain = make_optimizer(Settings(momentum=0.0), MODEL, lambda step: 1.0 / (1 + step))
    state = chain.init(PARAMS)
    for step in range(3):
        update, state = chain.update(GRADIENTS, state, PARAMS)
        np.testing.assert_allclose(
            update["head"]["kernel"], -GRADIENTS["head"]["kernel"] / (1 + step), rtol=1e-6
        )


def test_layers_have_rates_of_their_own():
    plain, *_ = updates(optimizer="adamw")
    scaled, *_ = updates(optimizer="adamw", layer_decay=0.5)
    factors = layer_factors(MODEL, 0.5)
    assert factors["head"] == 1
    want = {
        path: np.asarray(update) * factors[path.partition("/")[0]]
        for path, update in flatten_variables(plain)
    }
    assert_equal(scaled, want)


@pytest.mark.parametrize(
    ("model", "first", "last"),
    [
        (zoo.ResNet18(), ["stem", "stage1/block1", "stage1/block2"], ["stage4/block2", "head"]),
        (
            zoo.EfficientNetLite0(),
            ["stem", "stage1/block1", "stage2/block1", "stage2/block2"],
            ["stage7/block1", "conv_head", "head"],
        ),
        (zoo.VGG11(), ["stage1", "stage2"], ["fc6", "fc7", "head"]),
    ],
    ids=lambda value: getattr(value, "title", None),
)
def test_factors_of_blocks_in_the_order_of_computation(model, first, last):
    factors = layer_factors(model, 0.5)
    names = list(factors)
    assert names[: len(first)] == first
    assert names[-len(last) :] == last
    assert [factors[name] for name in names] == [
        0.5**power for power in reversed(range(len(names)))
    ]


@pytest.mark.parametrize("family", sorted(SMALL))
def test_each_parameter_of_a_family_is_in_a_block_that_has_a_factor(family):
    model = SMALL[family]
    blocks = layer_factors(model, 0.5, channels=1)
    for path, _ in flatten_variables(model.variable_shapes(channels=1)["params"]):
        of_block = [name for name in blocks if path.startswith(f"{name}/")]
        assert len(of_block) == 1 or path.startswith("auxiliary"), path
