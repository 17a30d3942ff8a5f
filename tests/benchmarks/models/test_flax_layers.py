"""The zoo's models on flax.linen's layers compute the same, without the zoo's operators."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from benchmarks.models.flax_layers import flax_layers
from tests.zoo.models.small_models import SMALL
from zoo.training import step

LABELS = jnp.array([1, 3, 0])


@pytest.fixture(scope="module", params=["mobilenet_v3", "resnet"])
def case(request):
    """A model, variables with statistics that are not the defaults, and images."""
    model = SMALL[request.param]
    x = jax.random.normal(jax.random.key(0), (3, 32, 32, 3))
    variables = model.init(jax.random.key(1), x)
    stats = jax.tree.map(
        lambda a: a + jax.random.uniform(jax.random.key(2), a.shape), variables["batch_stats"]
    )
    return model, {**variables, "batch_stats": stats}, x


def run_both(f, *args):
    """f(*args) by the zoo's operators and by flax's layers; and the jaxpr of the latter."""
    ours = jax.jit(f)(*args)
    with flax_layers():
        program = jax.make_jaxpr(lambda *args: f(*args))(*args)
        by_flax = jax.jit(lambda *args: f(*args))(*args)
    return ours, by_flax, str(program)


def assert_close(a, b):
    # Both sum in float32, in another order, through some tens of layers: of each array as a whole.
    def compare(a, b):
        assert np.linalg.norm(a - b) <= 2e-3 * np.linalg.norm(b) + 1e-5

    jax.tree.map(compare, a, b)


def gradient(model, variables, x):
    def loss(params):
        return step.classification_loss(
            model, {**variables, "params": params}, x, LABELS, jax.random.key(3)
        )

    return jax.value_and_grad(loss, has_aux=True)(variables["params"])


def test_inference(case):
    model, variables, x = case
    ours, by_flax, program = run_both(model.apply, variables, x)
    assert_close(ours, by_flax)
    assert "custom_vjp_call" not in program


def test_fused_inference(case):
    model, variables, x = case
    fused, folded = zoo.fuse(model, variables)
    ours, by_flax, _ = run_both(fused.apply, folded, x)
    assert_close(ours, by_flax)


def test_gradients_and_statistics(case):
    model, variables, x = case
    ours, by_flax, program = run_both(lambda v, x: gradient(model, v, x), variables, x)
    assert_close(ours, by_flax)
    assert "custom_vjp_call" not in program


def test_the_zoos_layers_do_use_its_operators(case):
    model, variables, x = case
    assert "custom_vjp_call" in str(jax.make_jaxpr(model.apply)(variables, x))


def test_activations_stay_bfloat16(case):
    model, variables, x = case
    with flax_layers():
        _, sown = jax.eval_shape(
            lambda v, x: model.clone(dtype=jnp.bfloat16).apply(
                v, x, capture_intermediates=True, mutable=["intermediates"]
            ),
            variables,
            x,
        )
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(sown["intermediates"])]
    assert dtypes.count(jnp.float32) == 1  # the logits
