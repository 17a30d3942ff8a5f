"""bias_act and both batch norms inside JAX's transformations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import zoo_kernels as kernels
from tests.kernels.cases import draw

SHAPE = (2, 3, 4, 5)
# Name → operator, and how many [C] operands follow x; the last operand is the residual.
OPERATORS = {
    "bias_act": (lambda x, b, r: kernels.bias_act(x, b, "gelu", residual=r), 1),
    "batch_norm": (
        lambda x, s, b, r: kernels.batch_norm(x, s, b, act="silu", residual=r)[0],
        2,
    ),
    "batch_norm_inference": (
        lambda x, s, b, m, v, r: kernels.batch_norm_inference(
            x, s, b, m, v**2 + 1, act="tanh", residual=r
        ),
        4,
    ),
}


def operands(vectors, dtype="float32", lead=()):
    shapes = [SHAPE, *[SHAPE[-1:]] * vectors, SHAPE]
    return [draw((*lead, *shape), dtype, i) for i, shape in enumerate(shapes)]


def assert_same(got, want, tolerance=1e-5):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), got, want
    )


def gradients(op, *arrays):
    return jax.grad(lambda *a: (op(*a) ** 2).sum(), argnums=tuple(range(len(arrays))))(*arrays)


@pytest.mark.parametrize("name", OPERATORS)
def test_numerical_derivatives_of_both_orders(name):
    op, vectors = OPERATORS[name]
    with jax.enable_x64(True):
        check_grads(jax.jit(op), operands(vectors, "float64"), order=2, modes=["rev"])


@pytest.mark.parametrize("name", OPERATORS)
def test_vmap_over_each_operand(name):
    op, vectors = OPERATORS[name]
    many = operands(vectors, lead=(3,))
    alone = jax.jit(functools.partial(gradients, op))
    for mapped in range(len(many)):
        axes = [0 if i == mapped else None for i in range(len(many))]
        arrays = [a if axis == 0 else a[0] for a, axis in zip(many, axes, strict=True)]
        got = jax.jit(jax.vmap(functools.partial(gradients, op), in_axes=axes))(*arrays)
        for i in range(3):
            want = alone(*(a[i] if ax == 0 else a for a, ax in zip(arrays, axes, strict=True)))
            assert_same([g[i] for g in got], list(want), 1e-4)


@pytest.mark.parametrize("name", OPERATORS)
def test_inside_checkpoint_and_scan(name):
    op, vectors = OPERATORS[name]
    x, *others = operands(vectors)

    def looped(x, *others):
        step = jax.checkpoint(lambda x, _: (op(x, *others), None))
        return jax.lax.scan(step, x, None, length=3)[0]

    def unrolled(x, *others):
        for _ in range(3):
            x = op(x, *others)
        return x

    got, want = (jax.jit(functools.partial(gradients, f))(x, *others) for f in (looped, unrolled))
    assert_same(got, want, 1e-4)


def test_statistics_over_two_axes():
    x = draw((2, 3, *SHAPE), "float32")
    one = jnp.ones(SHAPE[-1])

    def f(x, axes):
        return kernels.batch_norm(x, one, one, axis_name=axes)

    both = jax.vmap(jax.vmap(lambda x: f(x, ("a", "b")), axis_name="b"), axis_name="a")(x)
    want = f(x.reshape(-1, SHAPE[-1]), None)
    assert_same(both[0].reshape(-1, SHAPE[-1]), want[0])
    assert_same(both[1][1, 2], want[1])
    with pytest.raises(ValueError, match="axis_name must be a name or names of axes, got 0"):
        f(x, 0)
