"""Models under the settings of jax that change how programs are traced."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zoo_kernels as kernels
from tests.kernels.core.test_settings import SETTINGS, x64
from tests.zoo.models.small_models import SMALL, logits, small
from zoo.training.losses import cross_entropy
from zoo.training.mixing import mix
from zoo.training.optimizers import make_optimizer
from zoo.training.settings import Settings
from zoo.training.step import init_train_state, make_train_step

FAMILIES = sorted(SMALL)


@pytest.mark.parametrize("setting", [name for name in SETTINGS if name != "disable_jit"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.slow
def test_training_steps_are_traced(family, setting):
    """Tracing raises the errors of types; compiling all of them would take minutes."""
    model, variables, x = small(family)
    optimizer = optax.sgd(0.1, momentum=0.9)
    step = make_train_step(model, optimizer, average_decay=0.9)
    state = init_train_state(variables, optimizer, average=True)
    labels = jnp.zeros(x.shape[0], jnp.int32)

    def trace():
        return jax.eval_shape(step.__wrapped__, state, x, labels)

    want = trace()
    with SETTINGS[setting]():
        got = trace()
    assert jax.tree.map(lambda a: (a.shape, a.dtype), got) == jax.tree.map(
        lambda a: (a.shape, a.dtype), want
    )


@pytest.mark.parametrize("setting", ["x64", "strict promotion"])
def test_a_step_with_all_options_is_traced(setting):
    model, variables, x = small("densenet")
    # Of what optax has, Adam and the cosine are not for strict promotion.
    settings = Settings(weight_decay=0.1, clip_norm=1.0, layer_decay=0.5)
    optimizer = make_optimizer(settings, model, optax.constant_schedule(0.1))
    loss = functools.partial(cross_entropy, label_smoothing=0.1)
    step = make_train_step(model, optimizer, loss=loss, accumulate=2, trainable=("**", "!stem"))
    state = init_train_state(variables, optimizer, trainable=("**", "!stem"))
    labels, weights = jnp.zeros(x.shape[0], jnp.int32), jnp.ones(x.shape[0], jnp.float32)

    def trace():
        mixed = functools.partial(mix, num_classes=model.num_classes, mixup=0.1, cutmix=1.0)
        x_and_labels = jax.eval_shape(mixed, x, labels, weights, jax.random.key(0))
        return jax.eval_shape(step.__wrapped__, state, *x_and_labels)

    want = trace()
    with SETTINGS[setting]():
        got = trace()
    assert jax.tree.map(lambda a: (a.shape, a.dtype), got) == jax.tree.map(
        lambda a: (a.shape, a.dtype), want
    )


def test_a_training_step_with_x64():
    model, variables, x = small("resnet")
    optimizer = optax.sgd(0.1)
    labels = jnp.zeros(x.shape[0], jnp.int32)

    def run():
        state = init_train_state(jax.tree.map(jnp.copy, variables), optimizer)
        return make_train_step(model, optimizer)(state, x, labels)[1]

    want = run()
    with x64():
        got = run()
    for name, value in got.items():
        assert value.dtype == want[name].dtype
        np.testing.assert_allclose(value, want[name], rtol=1e-4)


def test_inference_without_jit(lite):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 33, 33, 3)), jnp.float32)
    want = lite(x)
    with jax.disable_jit():
        np.testing.assert_allclose(lite(x), want, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_forward_mode_of_a_model():
    """The derivative of the logits along a direction is the gradient's product with it."""
    model, variables, x = small("mobilenet_v3")
    direction = jnp.asarray(np.random.default_rng(1).standard_normal(x.shape), x.dtype)
    with kernels.using("lax"):
        y, tangent = jax.jvp(functools.partial(model.apply, variables), (x,), (direction,))
        np.testing.assert_allclose(y, logits(model, variables, x), rtol=1e-3, atol=1e-4)
        weights = jnp.asarray(np.random.default_rng(2).standard_normal(y.shape), y.dtype)
    gradient = jax.grad(lambda x: (model.apply(variables, x) * weights).sum())(x)
    np.testing.assert_allclose(jnp.vdot(tangent, weights), jnp.vdot(gradient, direction), rtol=1e-3)
