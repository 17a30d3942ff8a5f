"""Training steps of two small models, and the same by plain jax."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.zoo.models.small_models import random_variables
from zoo.models.base import Model
from zoo.models.layers import Conv, ConvNorm
from zoo.training.step import init_train_state, make_train_step
from zoo_pretrained.checkpoint import flatten_variables

RATE = 0.1
X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 32, 31, 3)), jnp.float32)
LABELS = jnp.array([0, 1, 2, 3, 4, 1])
WEIGHTS = np.array([1.0, 0.0, 2.0, 1.0, 0.5, 3.0], np.float32)
# Parts of a batch are summed in another order, and programs fused differently.
TOLERANCE = {"rtol": 1e-3, "atol": 1e-5}


class TwoLayers(Model, kw_only=True):
    """Two convolutions, with batch norms or without, and a classifier: compiled in a second."""

    norms: bool = True
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(self, x, train=False):
        layer = ConvNorm if self.norms else functools.partial(Conv, use_bias=True)
        for name in ("stem", "stage1"):
            convolve = layer(8, 3, 2, act="relu", options=self.layer_options, name=name)
            x = convolve(x, train)
        return self.logits(x, train, self.dropout_rate)


@functools.cache
def with_norms():
    model = TwoLayers(num_classes=5)
    return model, random_variables(model)


@functools.cache
def without_norms():
    model = TwoLayers(num_classes=5, norms=False)
    return model, random_variables(model)


@functools.cache
def compiled(make, **options):
    return make_train_step(make()[0], optax.sgd(RATE, momentum=0.9), **options)


def first_state(make, trainable=None, average=False):
    """A state whose arrays may be donated."""
    copy = jax.tree.map(jnp.copy, make()[1])
    optimizer = optax.sgd(RATE, momentum=0.9)
    return init_train_state(
        copy, optimizer, jax.random.key(3), trainable=trainable, average=average
    )


def take_step(make, *batch, **options):
    """The state after the first step, and its metrics."""
    state = first_state(make, options.get("trainable"))
    return compiled(make, **options)(state, *(batch or (X, LABELS)))


@functools.cache
def _by_hand(make, train):
    model, _ = make()

    def loss(params, variables, x, labels, weights):
        logits, new = model.apply(
            {**variables, "params": params}, x, train=train, mutable=["batch_stats"]
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return (losses * weights).sum() / weights.sum(), new

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def reference(make, x=X, labels=LABELS, weights=None, train=True, variables=None):
    """Loss, new statistics and gradients by plain jax."""
    variables = make()[1] if variables is None else variables
    weights = np.ones(len(x), np.float32) if weights is None else weights
    compute = _by_hand(make, train)
    (loss, new), gradients = compute(variables["params"], variables, x, labels, weights)
    return float(loss), new, gradients


def assert_updated(after, make, gradients):
    """The parameters are those of one step of gradient descent."""
    want = jax.tree.map(lambda p, g: p - RATE * g, make()[1]["params"], gradients)
    assert_close(after.variables["params"], want)


def assert_close(got, want):
    got, want = dict(flatten_variables(got)), dict(flatten_variables(want))
    assert got.keys() == want.keys()
    for path, array in got.items():
        np.testing.assert_allclose(array, want[path], err_msg=path, **TOLERANCE)


def assert_same(got, want):
    jax.tree.map(np.testing.assert_array_equal, got, want)
