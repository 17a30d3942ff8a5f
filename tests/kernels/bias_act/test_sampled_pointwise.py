"""bias_act and both batch norms on sampled calls, against plain compositions in float64.

Near an activation's kink, rounding may land on its other side, where the derivative is another:
those few entries get a cotangent of 0.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo_kernels as kernels
from tests.kernels.bias_act.test_bias_act import PLAIN
from tests.kernels.cases import (
    DTYPES,
    HALVES,
    OPTIMISED,
    assert_close,
    draw,
    fewer,
    rounding,
    sampled,
    unit,
)
from zoo_kernels.core.pallas.row_reductions import UNSUPPORTED_ACTS

KINKS = np.array([-3.0, 0.0, 3.0, 6.0])
fields = {
    "shape": st.tuples(
        st.lists(st.integers(1, 7), min_size=0, max_size=3), st.sampled_from([1, 3, 33, 728])
    ).map(lambda parts: (*parts[0], parts[1])),
    "act": st.sampled_from(sorted(PLAIN)),
    "residual": st.booleans(),
    "dtype": st.sampled_from(DTYPES),
    "mean": st.sampled_from([0.0, 0.0, 3.0, -40.0]),
}
calls = st.fixed_dictionaries(fields)
# Calls that the Triton kernels support.
acts = st.sampled_from(sorted(PLAIN.keys() - {*UNSUPPORTED_ACTS}))
halves = st.fixed_dictionaries({**fields, "act": acts, "dtype": st.sampled_from(HALVES)})


def gradients(f, arrays, dy):
    """f's value, and the gradients of the arrays that are not None, by name."""
    names = [name for name, array in arrays.items() if array is not None]
    y, vjp = jax.vjp(
        lambda *values: f(**{**arrays, **dict(zip(names, values, strict=True))}),
        *(arrays[name] for name in names),
    )
    return y, dict(zip(names, vjp(dy), strict=True))


def compare(ours, plain, plain_z, case, arrays, size):
    """Compares value and gradients of ours in the case's dtype with plain ones in float64.

    Args:
      size: by how much a result's rounding errors may exceed its operands' own.
    """
    dtype = case["dtype"]
    with jax.enable_x64(True):
        exact = {k: None if a is None else jnp.asarray(a, jnp.float64) for k, a in arrays.items()}
        z = np.asarray(plain_z(**exact))
        off_kinks = np.abs(z[..., None] - KINKS).min(axis=-1) > 64 * unit(dtype) * (1 + np.abs(z))
        dy = draw(case["shape"], dtype, 9) * jnp.asarray(off_kinks, dtype)
        run = jax.jit(functools.partial(gradients, plain))
        want, wants = jax.tree.map(np.asarray, run(exact, jnp.asarray(dy, jnp.float64)))
    with jax.enable_x64(dtype == "float64"):
        dy = jnp.asarray(np.asarray(dy), dtype)
        got, gots = jax.jit(functools.partial(gradients, ours), compiler_options=OPTIMISED)(
            arrays, dy
        )
        assert got.dtype == jnp.dtype(dtype)
        assert {k: a.dtype for k, a in gots.items()} == {k: arrays[k].dtype for k in gots}
        got, gots = jax.tree.map(lambda a: np.asarray(a, np.float64), (got, gots))
    fine, coarse = rounding(dtype), unit(dtype)
    spread = float(jnp.finfo(dtype).tiny) + size * fine
    assert_close(got, want, (spread + 2 * coarse) * (1 + np.abs(z)), f"y of {case}")
    count = got.size // got.shape[-1]
    largest = np.abs(np.asarray(dy, np.float64)).max()
    for name, gradient in gots.items():
        # A derivative comes from a y or z that was rounded, and z·act''(z) stays below 1.2 for
        # every activation: so its error is the dtype's. Errors of a sum over the batch are as
        # likely up as down and grow as its square root; six of their deviations bound them.
        terms = 1 if gradient.shape == got.shape else count
        most = 4 * coarse + size * fine
        each = largest + np.abs(wants[name]).max() / np.sqrt(terms)
        bound = (6 * np.sqrt(terms) if terms > 1 else 1) * most * each
        assert_close(gradient, wants[name], bound, f"d{name} of {case}")


@pytest.mark.sampled
@sampled
@given(case=calls)
def test_bias_act(case):
    check_bias_act(case)


@pytest.mark.sampled
@fewer
@given(case=calls)
def test_bias_act_by_xla(case):
    check_bias_act(case, "xla")


@pytest.mark.triton
@pytest.mark.sampled
@fewer
@given(case=halves)
def test_bias_act_by_triton(interpreted, case):
    check_bias_act(case, "triton")


def check_bias_act(case, implementation=None):
    shape, dtype, act = case["shape"], case["dtype"], case["act"]
    with jax.enable_x64(dtype == "float64"):
        arrays = {
            "x": draw(shape, dtype, 0, 2.0),
            "bias": draw(shape[-1:], dtype, 1),
            "residual": draw(shape, dtype, 2) if case["residual"] else None,
        }

    def z(x, bias, residual):
        return x + bias + (0 if residual is None else residual)

    def plain(**arrays):
        return PLAIN[act](z(**arrays))

    def ours(x, bias, residual):
        return kernels.bias_act(x, bias, act, residual=residual, implementation=implementation)

    compare(ours, plain, z, case, arrays, size=16)


def cancellation(case, arrays):
    """The largest ratio of an entry of x to its channel's standard deviation."""
    x = np.asarray(arrays["x"], np.float64).reshape(-1, case["shape"][-1])
    return ((np.abs(x).max(0) + 1) / np.sqrt(x.var(0) + 1e-3)).max()


@pytest.mark.sampled
@sampled
@given(case=calls, inference=st.booleans())
def test_batch_norm(case, inference):
    check_batch_norm(case, inference)


@pytest.mark.sampled
@fewer
@given(case=calls, inference=st.booleans())
def test_batch_norm_by_xla(case, inference):
    check_batch_norm(case, inference, "xla")


@pytest.mark.triton
@pytest.mark.sampled
@fewer
@given(case=halves, inference=st.booleans())
def test_batch_norm_by_triton(interpreted, case, inference):
    check_batch_norm(case, inference, "triton")


def check_batch_norm(case, inference, implementation=None):
    case = {**case, "shape": (8, *case["shape"])}  # something to average
    shape, dtype, act = case["shape"], case["dtype"], case["act"]
    vector = "float64" if dtype == "float64" else "float32"
    with jax.enable_x64(dtype == "float64"):
        arrays = {
            "x": draw(shape, dtype, 0, 2.0) + jnp.asarray(case["mean"], dtype),
            "scale": draw(shape[-1:], vector, 1),
            "bias": draw(shape[-1:], vector, 2),
            "residual": draw(shape, dtype, 3) if case["residual"] else None,
        }
        if inference:
            arrays["mean"] = draw(shape[-1:], vector, 4) + case["mean"]
            arrays["var"] = draw(shape[-1:], vector, 5) ** 2 + 1

    def z(x, scale, bias, residual, mean=None, var=None):
        axes = tuple(range(x.ndim - 1))
        mean = x.mean(axes) if mean is None else mean
        var = ((x - mean) ** 2).mean(axes) if var is None else var
        out = (x - mean) / jnp.sqrt(var + 1e-3) * scale + bias
        return out if residual is None else out + residual

    def plain(**arrays):
        return PLAIN[act](z(**arrays))

    def ours(x, scale, bias, residual, mean=None, var=None):
        options = {"eps": 1e-3, "act": act, "residual": residual, "implementation": implementation}
        if inference:
            return kernels.batch_norm_inference(x, scale, bias, mean, var, **options)
        return kernels.batch_norm(x, scale, bias, **options)[0]

    compare(ours, plain, z, case, arrays, size=16 * cancellation(case, arrays) ** 2)
