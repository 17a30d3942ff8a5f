"""The plain side of the benchmarks computes what the zoo's models do, by other means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from benchmarks.models.plain import plainly
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


def both(f, *args):
    """What f gives, by the zoo's operators and plainly; and the plain program."""
    ours = jax.jit(f)(*args)
    with plainly():
        program = jax.make_jaxpr(lambda *args: f(*args))(*args)
        plain = jax.jit(lambda *args: f(*args))(*args)
    return ours, plain, str(program)


def close(a, b):
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
    ours, plain, program = both(model.apply, variables, x)
    close(ours, plain)
    assert "custom_vjp_call" not in program


def test_fused_inference(case):
    model, variables, x = case
    fused, folded = zoo.fuse(model, variables)
    ours, plain, _ = both(fused.apply, folded, x)
    close(ours, plain)


def test_gradients_and_statistics(case):
    model, variables, x = case
    ours, plain, program = both(lambda v, x: gradient(model, v, x), variables, x)
    close(ours, plain)
    assert "custom_vjp_call" not in program


def test_what_is_looked_for_is_there_otherwise(case):
    model, variables, x = case
    assert "custom_vjp_call" in str(jax.make_jaxpr(model.apply)(variables, x))


def test_half_precision_stays_so(case):
    model, variables, x = case
    with plainly():
        _, sown = jax.eval_shape(
            lambda v, x: model.clone(dtype=jnp.bfloat16).apply(
                v, x, capture_intermediates=True, mutable=["intermediates"]
            ),
            variables,
            x,
        )
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(sown["intermediates"])]
    assert dtypes.count(jnp.float32) == 1  # the logits
