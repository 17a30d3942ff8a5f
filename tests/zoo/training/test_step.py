"""One step of training: the loss, the gradients and the optimizer's update."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.zoo.models.small_models import small
from zoo.training import step


@pytest.mark.slow
def test_a_step_applies_the_optimizer_to_the_gradients():
    model, variables, x = small("mobilenet_v1")
    labels, key = jnp.array([1, 4]), jax.random.key(3)
    optimizer = optax.sgd(0.1, momentum=0.9)

    def loss(params):
        return step.classification_loss(model, {**variables, "params": params}, x, labels, key)

    (want, statistics), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(
        variables["params"]
    )
    updated = jax.tree.map(lambda p, g: p - 0.1 * g, variables["params"], gradients)
    state = step.init_train_state(jax.tree.map(jnp.copy, variables), optimizer)
    donated = jax.tree.leaves(state)
    after, value = step.make_train_step(model, optimizer)(state, x, labels, key)
    assert value == pytest.approx(float(want), rel=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        after.variables,
        {**statistics, "params": updated},
    )
    assert all(array.is_deleted() for array in donated)


def test_the_loss_includes_auxiliary_classifiers():
    model, variables, x = small("googlenet")
    labels = jnp.array([1, 4])
    model = model.clone(dropout_rate=0.0, auxiliary_dropout_rate=0.0)
    logits, sown = model.apply(variables, x, train=True, mutable=["batch_stats", "intermediates"])
    losses = [
        optax.softmax_cross_entropy_with_integer_labels(y, labels).mean()
        for y in (logits, *jax.tree.leaves(sown["intermediates"]))
    ]
    assert len(losses) == 2
    got, statistics = step.classification_loss(model, variables, x, labels, jax.random.key(0))
    assert float(got) == pytest.approx(float(losses[0] + 0.3 * losses[1]), rel=1e-5)
    assert set(statistics) == {"batch_stats"}
