"""Steps that freeze, accumulate or average, beside plain jax and float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.zoo.models.small_models import random_variables
from tests.zoo.training.steps import (
    LABELS,
    RATE,
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
from zoo.models.densenet import DenseNet
from zoo.training.losses import cross_entropy
from zoo.training.step import init_train_state, make_train_step
from zoo_pretrained.checkpoint import flatten_variables


@pytest.mark.parametrize(
    ("trainable", "chosen"),
    [("head", ["head"]), (("**", "!stem"), ["head", "stage1"])],
)
def test_only_what_is_trainable_changes(trainable, chosen):
    params = with_norms()[1]["params"]
    after, _ = take_step(with_norms, trainable=trainable)
    _, _, gradients = reference(with_norms)
    for name, tree in after.variables["params"].items():
        if name in chosen:
            want = jax.tree.map(lambda p, g: p - RATE * g, params[name], gradients[name])
            assert_close(tree, want)
        else:
            assert_same(tree, params[name])
    (momentum,) = [part for part in after.optimizer if hasattr(part, "trace")]
    assert sorted(momentum.trace) == chosen


def test_gradients_of_what_is_frozen_are_not_computed():
    """Of the classifier alone they cost little beside the forward pass."""
    model, variables = without_norms()

    def flops(trainable):
        state = init_train_state(variables, optax.sgd(0.1), trainable=trainable)
        step = make_train_step(model, optax.sgd(0.1), trainable=trainable)
        return step.lower(state, X, LABELS).cost_analysis()["flops"]

    assert flops("head") < 0.5 * flops(None)


@pytest.mark.parametrize(
    ("freeze_norms", "moving"),
    [(("**",), set()), (("**", "!stage1"), {"stage1"})],
)
def test_frozen_norms_keep_their_statistics(freeze_norms, moving):
    old = with_norms()[1]["batch_stats"]
    after, _ = take_step(with_norms, freeze_norms=freeze_norms)
    new = after.variables["batch_stats"]
    for name, statistics in old.items():
        if name in moving:
            assert not np.array_equal(statistics["norm"]["mean"], new[name]["norm"]["mean"])
        else:
            assert_same(new[name], statistics)


def test_with_frozen_norms_the_gradient_is_that_of_inference():
    after, metrics = take_step(with_norms, freeze_norms=("**",))
    loss, _, gradients = reference(with_norms, train=False)
    assert float(metrics["loss"]) == pytest.approx(loss, rel=1e-5)
    assert_updated(after, with_norms, gradients)


def test_a_batch_in_parts_is_the_whole_without_norms():
    after, metrics = take_step(without_norms, X, LABELS, WEIGHTS, accumulate=3)
    want, want_metrics = take_step(without_norms, X, LABELS, WEIGHTS)
    assert_close(after.variables, want.variables)
    for name, value in metrics.items():
        assert float(value) == pytest.approx(float(want_metrics[name]), rel=1e-4)


def test_norms_see_one_part_of_a_batch_after_the_other():
    after, metrics = take_step(with_norms, accumulate=2)
    seen, losses, gradients = with_norms()[1], [], []
    for part in range(2):
        loss, new, gradient = reference(with_norms, X[part::2], LABELS[part::2], variables=seen)
        seen = {**seen, **new}
        losses.append(loss)
        gradients.append(gradient)
    assert float(metrics["loss"]) == pytest.approx(sum(losses) / 2, rel=1e-5)
    assert_updated(after, with_norms, jax.tree.map(lambda a, b: (a + b) / 2, *gradients))
    assert_close(after.variables["batch_stats"], seen["batch_stats"])


def test_the_average_is_a_moving_one_that_forgets_its_start():
    step, state = (
        compiled(without_norms, average_decay=0.2),
        first_state(without_norms, average=True),
    )
    want = {path: np.asarray(x, np.float64) for path, x in flatten_variables(state.variables)}
    for number in range(4):
        state, _ = step(state, X, LABELS)
        decay = min(0.2, (1 + number) / (10 + number))
        for path, array in flatten_variables(state.variables):
            want[path] = decay * want[path] + (1 - decay) * np.asarray(array, np.float64)
    assert decay == 0.2
    for path, array in flatten_variables(state.average):
        np.testing.assert_allclose(array, want[path], rtol=1e-5, atol=1e-6, err_msg=path)


def test_norms_of_recomputed_blocks_are_frozen_too():
    model = DenseNet(depths=(1, 1), growth_rate=4, stem_channels=8, num_classes=5, remat=True)
    variables = random_variables(model)
    state = init_train_state(jax.tree.map(jnp.copy, variables), optax.sgd(RATE))
    after, _ = make_train_step(model, optax.sgd(RATE), freeze_norms=("**",))(state, X, LABELS)
    assert_same(after.variables["batch_stats"], variables["batch_stats"])
    head = (tree["params"]["head"]["kernel"] for tree in (after.variables, variables))
    assert not np.array_equal(*head)


def test_parts_of_a_batch_have_dropout_of_their_own():
    model, _ = without_norms()
    seen = []

    def loss(logits, labels):
        jax.debug.callback(lambda array: seen.append(np.asarray(array)), logits)
        return cross_entropy(logits, labels)

    step = make_train_step(
        model.clone(dropout_rate=0.5), optax.sgd(RATE, momentum=0.9), loss=loss, accumulate=2
    )
    step(first_state(without_norms), jnp.repeat(X[:1], 4, axis=0), LABELS[:4])
    jax.effects_barrier()
    assert len(seen) == 2
    assert not np.array_equal(*seen)
