"""One step of training beside plain jax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.zoo.models.small_models import random_variables
from tests.zoo.training.steps import (
    LABELS,
    TOLERANCE,
    WEIGHTS,
    X,
    assert_close,
    assert_same,
    assert_updated,
    compiled,
    first_state,
    reference,
    take_step,
    with_norms,
    without_norms,
)
from zoo.models.googlenet import BlockConfig, GoogLeNet, StageConfig
from zoo.training.step import classification_loss, init_train_state, make_train_step


def test_a_step_applies_the_optimizer_to_the_gradients():
    after, metrics = take_step(with_norms)
    loss, new, gradients = reference(with_norms)
    assert int(after.step) == 1
    assert float(metrics["loss"]) == pytest.approx(loss, rel=1e-5)
    assert float(metrics["grad_norm"]) == pytest.approx(float(optax.tree.norm(gradients)), rel=1e-4)
    assert_updated(after, with_norms, gradients)
    assert_close(after.variables["batch_stats"], new["batch_stats"])


def test_the_accuracy_is_the_weighted_share_of_right_images():
    model, variables = without_norms()
    right = np.asarray(jax.jit(model.apply)(variables, X).argmax(-1) == LABELS)
    want = (right * WEIGHTS).sum() / WEIGHTS.sum()
    _, metrics = take_step(without_norms, X, LABELS, WEIGHTS)
    assert float(metrics["accuracy"]) == pytest.approx(want, abs=1e-6)


def test_weights_weigh_the_loss_and_the_gradients():
    after, metrics = take_step(without_norms, X, LABELS, WEIGHTS)
    loss, _, gradients = reference(without_norms, weights=WEIGHTS)
    assert float(metrics["loss"]) == pytest.approx(loss, rel=1e-5)
    assert_updated(after, without_norms, gradients)


def test_an_image_without_weight_does_not_matter():
    other, metrics = take_step(without_norms, X.at[1].set(7.0), LABELS.at[1].set(4), WEIGHTS)
    after, want = take_step(without_norms, X, LABELS, WEIGHTS)
    assert_same(other.variables, after.variables)
    assert_same(metrics, want)


def test_a_batch_without_weight_changes_nothing():
    after, metrics = take_step(without_norms, X, LABELS, 0 * WEIGHTS)
    assert_same(after.variables, without_norms()[1])
    assert {name: float(value) for name, value in metrics.items()} == {
        "loss": 0,
        "accuracy": 0,
        "grad_norm": 0,
    }


def test_labels_may_be_probabilities():
    shares = 0.25 * jax.nn.one_hot(LABELS, 5) + 0.75 * jax.nn.one_hot(LABELS[::-1], 5)
    after, metrics = take_step(without_norms, X, shares)
    one, _, first = reference(without_norms)
    other, _, second = reference(without_norms, labels=LABELS[::-1])
    assert float(metrics["loss"]) == pytest.approx(0.25 * one + 0.75 * other, rel=1e-5)
    gradients = jax.tree.map(lambda a, b: 0.25 * a + 0.75 * b, first, second)
    assert_updated(after, without_norms, gradients)


def test_the_state_that_is_given_is_donated():
    state = first_state(without_norms)
    arrays = jax.tree.leaves((state.variables, state.optimizer, state.step))
    compiled(without_norms)(state, X, LABELS, WEIGHTS)
    assert all(array.is_deleted() for array in arrays)


def test_dropout_follows_the_key_and_the_step():
    model, variables = without_norms()
    step = make_train_step(model.clone(dropout_rate=0.5), optax.sgd(0.0))

    def losses(key):
        copy = jax.tree.map(jnp.copy, variables)
        state, values = init_train_state(copy, optax.sgd(0.0), jax.random.key(key)), []
        for _ in range(2):
            state, metrics = step(state, X, LABELS)
            values.append(float(metrics["loss"]))
        return values

    first, again, other = losses(0), losses(0), losses(1)
    assert first == again
    assert len({*first, *other}) == 4


def test_the_loss_includes_auxiliary_classifiers():
    block = BlockConfig(4, 4, 4, 4, 4, 4)
    stages = StageConfig(3, (block._replace(auxiliary=True), block)), StageConfig(2, (block,))
    model = GoogLeNet(num_classes=5, stages=stages, dropout_rate=0.0, auxiliary_dropout_rate=0.0)
    variables = random_variables(model)
    in_training = functools.partial(
        model.apply, train=True, mutable=["batch_stats", "intermediates"]
    )
    logits, sown = jax.jit(in_training)(variables, X)
    losses = [
        optax.softmax_cross_entropy_with_integer_labels(y, LABELS).mean()
        for y in (logits, *jax.tree.leaves(sown["intermediates"]))
    ]
    assert len(losses) == 2
    got, (statistics, same) = jax.jit(functools.partial(classification_loss, model))(
        variables, X, LABELS, jax.random.key(0)
    )
    assert float(got) == pytest.approx(float(losses[0] + 0.3 * losses[1]), rel=1e-5)
    assert set(statistics) == {"batch_stats"}
    np.testing.assert_allclose(same, logits, **TOLERANCE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
        ({"average_decay": 1.0}, "average_decay must be from 0 to below 1, got 1.0"),
        ({"average_decay": -0.1}, "average_decay must be from 0 to below 1, got -0.1"),
        ({"average_decay": float("nan")}, "average_decay must be from 0 to below 1, got nan"),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        make_train_step(without_norms()[0], optax.sgd(0.1), **options)


def test_what_does_not_fit_is_an_error_before_it_compiles():
    with pytest.raises(ValueError, match="accumulate is 4, which does not divide a batch of 6"):
        take_step(without_norms, accumulate=4)
    step = make_train_step(without_norms()[0], optax.sgd(0.1, momentum=0.9), trainable="haed")
    with pytest.raises(ValueError, match=r"trainable: 'haed' matches no module.*mean head"):
        step(first_state(without_norms), X, LABELS)
    with pytest.raises(ValueError, match=r"other trainable parameters.* trainable='head'"):
        compiled(with_norms, trainable="head")(first_state(with_norms), X, LABELS)
